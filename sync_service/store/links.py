"""Links rows from before Clerk: a row without a Clerk ID gets the ID of its user."""

import re
from collections.abc import Sequence

from sync_service.clerk.user import User
from sync_service.mapping.computed_values import COMPUTED
from sync_service.store.access import BoundConnection

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_INTEGER_BITS = {"int2": 16, "int4": 32, "int8": 64}


async def link_rows(bound: BoundConnection, users: Sequence[User], *, source: str, lock_timeout_ms: int) -> int:
    """Link the rows that the mapping allows; return their number. The caller has begun a transaction."""
    queries, linked = bound.queries, []
    for statement, wanted in (
        (queries.link_rows_by_key, _list_external_ids(bound, users)),
        (queries.link_rows, _list_verified_emails(users)),
    ):
        if statement and wanted:
            clerk_ids, values = map(list, zip(*sorted(wanted), strict=True))
            records = await bound.connection.fetch(statement, clerk_ids, values, str(lock_timeout_ms), source)
            linked += [record[0] for record in records]
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
