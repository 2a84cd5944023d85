"""Deletions: their two steps, their end in the background, and their cancellation."""

from collections.abc import Sequence
from datetime import timedelta

import asyncpg

from sync_service.clerk.events import Event
from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import read_sql
from sync_service.store.access import BoundConnection
from sync_service.store.rows import raise_if_not_written

# Until then another process does not retry a deletion whose second step runs. A webhook responds within 10 s.
DELETION_LEASE = timedelta(seconds=30)


async def file_deletions(
    bound: BoundConnection,
    events: Sequence[Event],
    *,
    source: str,
    lock_timeout_ms: int,
    lease: timedelta = DELETION_LEASE,
) -> list[asyncpg.Record]:
    """Take the first step of deletions; return `state` and `is_duplicate` of each event, in order.

    It commits the tombstones and the events, so that a crash loses no deletion. `state` is `due` (`delete_rows` is the
    second step), `deferred` (the grace period has not passed, the row is marked) or `stale` (an operator restored the
    user). After `lease` another process takes a second step that did not finish.
    """
    grace, timeout_ms = bound.queries.bound.mapping.delete_grace, str(lock_timeout_ms)
    columns = zip(*((event.id, event.type, event.instance_id, event.clerk_id) for event in events), strict=True)
    common = source, grace, lease, timeout_ms, bound.queries.bound.mapping.entity
    records = await bound.connection.fetch(_FILE_DELETIONS, *map(list, columns), *common)
    deferred = [event for event, record in zip(events, records, strict=True) if record["state"] == "deferred"]
    if deferred:
        await bound.connection.execute(bound.queries.mark_deleted, _clerk_ids(deferred), timeout_ms)
    return records


async def delete_rows(
    bound: BoundConnection,
    events: Sequence[Event],
    *,
    lock_timeout_ms: int,
    timeout: float,  # noqa: ASYNC109  asyncpg cancels the statement on the server
    lift_limits: bool = False,
) -> set[str]:
    """Take the second step: delete or change the rows as the mapping says, remove the payloads, finish the events.

    Return the users who are still deleted: an operator may have restored one since the first step. `lift_limits` turns
    off the timeouts that are set on the role or the database. That costs three round trips.
    """
    event_ids = [event.id for event in events if event.id]
    parameters = _clerk_ids(events), event_ids, str(lock_timeout_ms)
    try:
        if not lift_limits:
            records = await bound.connection.fetch(bound.queries.delete_rows, *parameters, timeout=timeout)
        else:
            async with bound.connection.transaction():
                await bound.connection.execute(LIFT_LIMITS)
                records = await bound.connection.fetch(bound.queries.delete_rows, *parameters, timeout=timeout)
    except asyncpg.PostgresError as error:
        raise_if_not_written(bound, error)
        raise
    return {record["clerk_id"] for record in records}


async def continue_in_background(connection: Connection, event_ids: Sequence[str]) -> None:
    """Make deletions due at once whose second step did not finish."""
    await connection.execute(
        "update clerk_sync.events set next_attempt_at = now() where id = any($1) and status = 'failed'", event_ids
    )


async def restore_user(bound: BoundConnection, clerk_id: str) -> bool:
    """Cancel a deletion whose row still exists, for good; return whether there was one.

    Raises `ChangeRejected` if the row keeps the mark of the deletion.
    """
    try:
        return bool(await bound.connection.fetchval(bound.queries.restore_user, clerk_id))
    except asyncpg.PostgresError as error:
        raise_if_not_written(bound, error)
        raise


def _clerk_ids(events: Sequence[Event]) -> list[str]:
    return sorted({event.clerk_id for event in events if event.clerk_id})


# PostgreSQL 17 added the last one. The settings end with the transaction.
LIFT_LIMITS = """
select set_config(name, '0', true) from pg_settings
where name in ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
"""

_FILE_DELETIONS = read_sql(__package__, "file_deletions.sql")
