"""Compares users of Clerk with their rows, and lists the users whom a deletion may concern."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from sync_service.clerk.change import Snapshot
from sync_service.errors import ChangeRejected
from sync_service.store.access import BoundConnection, Store
from sync_service.store.events import decode_json
from sync_service.store.rows import row_for

# Users per statement.
LIST_SIZE = 5000


# The value of the row and the value of Clerk, by column.
ValuePairs: TypeAlias = dict[str, tuple[Any, Any]]


class Drift(Enum):
    """The kinds of difference between Clerk and the table. Each user has at most one."""

    MISSING = "missing"
    STALE = "stale"
    DIFFERING = "differing"


class Difference(Struct, frozen=True):
    """A user who must be applied.

    `drift` is None if the row is right and only the version in `clerk_sync` is older, or if the row cannot be compared
    because a column refuses the value. `columns` are those that differ.
    """

    snapshot: Snapshot
    drift: Drift | None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A user's state in the database. `version` is that of the identity, None for an unknown user."""

    version: int | None
    is_deleted: bool
    email_pending: bool
    has_row: bool
    columns: tuple[str, ...]

    def list_drifted(self, claimed: frozenset[str]) -> tuple[str, ...]:
        """Return the columns that differ, without the `claimed` ones of a row that waits for its email."""
        return tuple(name for name in self.columns if not (self.email_pending and name in claimed))


def classify(snapshot: Snapshot, found: Comparison, claimed: frozenset[str]) -> Difference | None:
    """Return the difference, or None if the user needs no write (pure).

    A row that waits for its email lacks a value in one of the `claimed` columns; this is no drift. A deletion is final,
    and a version that is newer than Clerk's list came by webhook meanwhile.
    """
    if found.is_deleted:
        return None
    if not found.has_row:
        return Difference(snapshot, Drift.MISSING)
    known, listed = found.version, snapshot.version.updated_at
    if known is not None and known > listed:
        return None
    if columns := found.list_drifted(claimed):
        is_behind = known is not None and known < listed
        return Difference(snapshot, Drift.STALE if is_behind else Drift.DIFFERING, columns)
    return Difference(snapshot, None) if known != listed else None


async def compare_users(store: Store, snapshots: Sequence[Snapshot], *, is_import: bool = False) -> list[Difference]:
    """Return the users who are not the same as their rows. Raises `DatabaseError`.

    In an import most users have no row. Then no row is built for the comparison, only for the write.
    """
    if not snapshots:
        return []
    try:
        async with store.acquire() as bound:
            return await (_find_missing_first if is_import else compare_rows)(bound, snapshots)
    except ChangeRejected:
        # A column refuses the value of one user, which must not hide the others.
        if len(snapshots) == 1:
            return [Difference(snapshots[0], None)]
        middle = len(snapshots) // 2
        parts = snapshots[:middle], snapshots[middle:]
        return [difference for part in parts for difference in await compare_users(store, part)]


async def _find_missing_first(bound: BoundConnection, snapshots: Sequence[Snapshot]) -> list[Difference]:
    ids = [snapshot.clerk_id for snapshot in snapshots]
    missing = {record["clerk_id"] for record in await bound.connection.fetch(bound.queries.find_missing, ids)}
    present = [snapshot for snapshot in snapshots if snapshot.clerk_id not in missing]
    absent = [Difference(snapshot, Drift.MISSING) for snapshot in snapshots if snapshot.clerk_id in missing]
    return absent + (await compare_rows(bound, present) if present else [])


async def compare_rows(bound: BoundConnection, snapshots: Sequence[Snapshot]) -> list[Difference]:
    """Do the same over this connection. Raises errors of asyncpg, also if a column refuses the value of one user."""
    queries = bound.queries
    rows = [msgspec.json.encode(row_for(queries, snapshot)).decode() for snapshot in snapshots]
    ids = [snapshot.clerk_id for snapshot in snapshots]
    versions = [snapshot.version.updated_at for snapshot in snapshots]
    fields = queries.bound.mapping.columns.items()
    claimed = frozenset(name for name, field in fields if field.shows_email or field.is_exclusive)
    differences = []
    for record in await bound.connection.fetch(queries.compare_users, ids, versions, rows):
        n, version, is_deleted, email_pending, has_row, columns = record
        found = Comparison(version, is_deleted, email_pending, has_row, tuple(columns))
        if difference := classify(snapshots[n - 1], found, claimed):
            differences.append(difference)
    return differences


async def read_values(store: Store, difference: Difference) -> ValuePairs:
    """Return the value of the row and the value of Clerk in each column that differs. Raises `DatabaseError`."""
    snapshot, columns = difference.snapshot, difference.columns
    async with store.acquire() as bound:
        wanted = msgspec.json.encode(row_for(bound.queries, snapshot)).decode()
        new = await bound.connection.fetchval(bound.queries.read_columns(columns), wanted)
        old = await bound.connection.fetchval(store.binding.lookups.row, snapshot.clerk_id)
    before, after = decode_json(old) if old else {}, decode_json(new)
    return {name: (before.get(name), after.get(name)) for name in columns}


async def iter_deletable(store: Store, before: datetime) -> AsyncIterator[list[str]]:
    """Yield pages of the users whom a deletion may concern, by Clerk ID.

    These are the users known before this time, and the deleted ones whose row has come back.
    """
    last, grace = "", store.mapping.delete_grace
    while True:
        async with store.acquire() as bound:
            records = await bound.connection.fetch(bound.queries.list_deletable, last, before, grace, LIST_SIZE)
        page = [str(record["clerk_id"]) for record in records]
        if page:
            yield page
        if len(page) < LIST_SIZE:
            return
        last = page[-1]


async def count_identities(store: Store) -> int:
    """Return the number of objects of this store's entity that are not deleted."""
    async with store.database.acquire() as connection:
        sql = "select count(*) from clerk_sync.identities where deleted_at is null and entity = $1"
        return int(await connection.fetchval(sql, store.mapping.entity))
