"""Parents and children: the rows on which sessions and memberships depend, and the rows that go with them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct

from sync_service.store.access import BoundConnection


class ParentState(Struct, frozen=True):
    """A parent: the app's key, None without a row, and whether Clerk has deleted it."""

    key: Any
    is_deleted: bool


async def lock_parents(
    parents: BoundConnection, clerk_ids: Sequence[str], *, lock_timeout_ms: int, for_deletion: bool = False
) -> dict[str, ParentState]:
    """Return the state of parents by Clerk ID. Their rows stay until the transaction ends.

    `for_deletion`: waits for the transactions that write children of these parents.
    """
    queries = parents.queries.family
    sql = queries.lock_deleted_parents if for_deletion else queries.lock_parents
    return await _read_parents(parents, sql, clerk_ids, lock_timeout_ms)


async def find_parents(parents: BoundConnection, clerk_ids: Sequence[str]) -> dict[str, ParentState]:
    """Return the state of parents by Clerk ID, without a lock."""
    return await _read_parents(parents, parents.queries.family.find_parents, clerk_ids, 0)


async def _read_parents(
    parents: BoundConnection, sql: str, clerk_ids: Sequence[str], lock_timeout_ms: int
) -> dict[str, ParentState]:
    records = await parents.connection.fetch(sql, sorted(clerk_ids), str(lock_timeout_ms))
    return {
        clerk_id: ParentState(None if key is None else msgspec.json.decode(key), is_deleted)
        for clerk_id, key, is_deleted in records
    }


async def list_children(
    children: BoundConnection, parent: str, parents: Mapping[str, ParentState], *, limit: int
) -> list[str]:
    """Return the Clerk IDs of rows that belong to deleted parents; empty if no column refers to the parent."""
    query = children.queries.family.children.get(parent)
    if query is None:
        return []
    keys = [str(state.key) for state in parents.values() if state.key is not None] if query.by_key else [*parents]
    return [record["clerk_id"] for record in await children.connection.fetch(query.sql, keys, limit)]


async def list_expired(sessions: BoundConnection, keep: timedelta, *, limit: int) -> list[str]:
    """Return the Clerk IDs of sessions that ended longer ago than `keep`."""
    records = await sessions.connection.fetch(sessions.queries.family.expired, keep, limit)
    return [record["clerk_id"] for record in records]
