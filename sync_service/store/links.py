"""Links rows from before Clerk: a row without a Clerk ID gets the ID of its user."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import asyncpg

from sync_service.clerk.user import User
from sync_service.mapping.computed_values import COMPUTED
from sync_service.store.access import BoundConnection
from sync_service.store.rows import raise_if_not_written

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_INTEGER_BITS = {"int2": 16, "int4": 32, "int8": 64}


class LinkKind(Enum):
    """The reason why a row belongs to a user, or why none does."""

    EXTERNAL_ID = "linked by external ID"
    EMAIL = "linked by email"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True)
class Link:
    """The row of a new user: `key` is its primary key as text. The link is ambiguous if several rows have the email."""

    kind: LinkKind
    key: str


async def find_links(bound: BoundConnection, users: Sequence[User]) -> dict[str, Link]:
    """Return the links that `link_rows` would make, by Clerk ID, and the ambiguous ones. It writes nothing.

    Raises the errors of asyncpg.
    """
    queries, links = bound.queries, {}
    for record in await _find(bound, queries.find_links_by_key, _list_external_ids(bound, users)):
        links[record["clerk_id"]] = Link(LinkKind.EXTERNAL_ID, record["key"])
    taken = {link.key for link in links.values()}
    for record in await _find(bound, queries.find_links, _list_verified_emails(users)):
        kind = LinkKind.AMBIGUOUS if record["is_ambiguous"] else LinkKind.EMAIL
        if record["clerk_id"] not in links and record["key"] not in taken:
            links[record["clerk_id"]] = Link(kind, record["key"])
    return links


async def _find(
    bound: BoundConnection, statement: str | None, wanted: Sequence[tuple[str, str]]
) -> list[asyncpg.Record]:
    if statement is None or not wanted:
        return []
    clerk_ids, values = map(list, zip(*wanted, strict=True))
    return await bound.connection.fetch(statement, clerk_ids, values)


async def link_rows(bound: BoundConnection, users: Sequence[User], *, source: str, lock_timeout_ms: int) -> int:
    """Link the rows that the mapping allows; return their number. The caller has begun a transaction.

    Raises `ChangeRejected` if a trigger keeps a row without the ID.
    """
    queries, linked = bound.queries, []
    for statement, wanted in (
        (queries.link_rows_by_key, _list_external_ids(bound, users)),
        (queries.link_rows, _list_verified_emails(users)),
    ):
        if statement and wanted:
            clerk_ids, values = map(list, zip(*sorted(wanted), strict=True))
            parameters = clerk_ids, values, str(lock_timeout_ms), source
            try:
                linked += await bound.connection.fetchval(statement, *parameters)
            except asyncpg.PostgresError as error:
                raise_if_not_written(bound, error)
                raise
    if linked and queries.unmark_linked:
        await bound.connection.execute(queries.unmark_linked, linked)
    return len(linked)


def _list_verified_emails(users: Sequence[User]) -> list[tuple[str, str]]:
    """Return Clerk IDs and emails. An unverified email never links: anybody can type another person's into a form."""
    return [
        (user.id, COMPUTED["primary_email"](user))
        for user in users
        if COMPUTED["primary_email"](user) and COMPUTED["primary_email_verified"](user)
    ]


def _list_external_ids(bound: BoundConnection, users: Sequence[User]) -> list[tuple[str, str]]:
    """Return Clerk IDs and external IDs that can be primary keys of the table."""
    key = bound.queries.bound.table.column(bound.queries.bound.key)
    base = key.base if key else "text"
    return [(user.id, user.external_id) for user in users if user.external_id and _is_key(user.external_id, base)]


def _is_key(text: str, base: str) -> bool:
    """Return whether the text is a key of this type, so that PostgreSQL's cast cannot fail."""
    if base == "uuid":
        return bool(_UUID.fullmatch(text))
    if bits := _INTEGER_BITS.get(base):
        return bool(re.fullmatch(r"0|-?[1-9][0-9]{0,18}", text)) and -(2 ** (bits - 1)) <= int(text) < 2 ** (bits - 1)
    return True
