"""Writes changes: snapshots and deletions are applied and filed, each by one statement for many events."""

from collections.abc import Collection, Sequence
from datetime import timedelta

import asyncpg
import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import astuple

from sync_service.clerk.change import Snapshot
from sync_service.clerk.entities import USER
from sync_service.clerk.events import Event
from sync_service.errors import ChangeRejected, DatabaseError
from sync_service.mapping.obstacles import find_refusing_rules, list_session_defaults
from sync_service.mapping.queries import Queries
from sync_service.mapping.table import Row
from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import read_sql
from sync_service.store.access import BoundConnection

log = structlog.get_logger()

# The pause before the second attempt. Each later pause is three times as long, up to an hour.
FIRST_PAUSE = timedelta(seconds=5)

# Until then another process does not retry a deletion whose second step runs. A webhook responds within 10 s.
DELETION_LEASE = timedelta(seconds=30)


# The SQLSTATE of clerk_sync.raise_row_not_written(), and the reason for operators.
NOT_WRITTEN_SQLSTATE = "CS001"
ROW_NOT_WRITTEN = "row_not_written"
# feature_not_supported: ON CONFLICT, or WITH, on a table with a rule.
RULE_SQLSTATE = "0A000"


class _EventParameters(Struct, frozen=True):
    """The parameters of apply_changes.sql for one event, in their order."""

    event_id: str | None
    type: str
    instance_id: str | None
    clerk_id: str | None
    kind: str = "none"
    version: int | None = None
    tiebreak: bytes | None = None
    payload: str | None = None
    user_row: str | None = None


# The kind of an event whose parent is deleted.
ORPHAN = "orphan"


async def apply_changes(
    bound: BoundConnection,
    events: Sequence[Event],
    *,
    source: str,
    lock_timeout_ms: int,
    row: Row | None = None,
    orphans: Collection[str | None] = (),
) -> list[asyncpg.Record]:
    """Apply and file snapshots in one statement; return `status` and `same_instant` of each event, in order.

    `row` replaces the mapped row of a single event. `orphans` are the IDs of objects whose parent is deleted; their
    events are filed only. Deletions go through `file_deletions` and `delete_rows`.
    """
    is_stored = source == "replay"
    parameters = [_event_parameters(bound.queries, event, row, orphans, is_stored=is_stored) for event in events]
    common: list[object] = [source, str(lock_timeout_ms)]
    has_owners = bound.queries.bound.mapping.entity != USER.name
    try:
        if len(parameters) == 1:
            common += [event.user_id for event in events if has_owners]
            return await bound.connection.fetch(bound.queries.apply_one, *parameters[0], *common)
        columns = map(_list_values, zip(*parameters, strict=True))
        common += [[event.user_id for event in events]] if has_owners else []
        return await bound.connection.fetch(bound.queries.apply_many, *columns, *common)
    except asyncpg.PostgresError as error:
        raise_if_not_written(bound, error)
        raise


async def find_rejected_column(bound: BoundConnection, snapshot: Snapshot) -> str | None:
    """Return a column whose type, or whose default, rejects its value in the row of this snapshot, or None."""
    row = msgspec.json.encode(row_for(bound.queries, snapshot)).decode()
    types = bound.queries.bound.column_types
    columns = [name for name, column in types.items() if column.type not in {"text", "json", "jsonb"}]
    while columns:
        # Bisection: four round trips for thirteen columns.
        half = columns[: (len(columns) + 1) // 2]
        try:
            await bound.connection.fetchval(bound.queries.read_columns(half), row)
        except (asyncpg.DataError, asyncpg.CheckViolationError):
            if len(half) == 1:
                return half[0]
            columns = half
        else:
            columns = columns[len(half) :]
    defaults = list_session_defaults(bound.queries.bound.mapping, bound.queries.bound.table)
    return defaults[0].name if defaults else None


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


async def note_replaced_values(connection: Connection, event_ids: Sequence[str]) -> None:
    """Note in the inbox that finished events were applied without some of their values."""
    await connection.execute(
        "update clerk_sync.events set reason = 'value_replaced' where id = any($1) and status in ('applied', 'stale')",
        event_ids,
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


async def park_event(
    connection: Connection, event: Event, error: DatabaseError, *, max_attempts: int, pause: timedelta = FIRST_PAUSE
) -> str | None:
    """File an event that cannot be applied; return its status, or None if it succeeded meanwhile.

    The status is `failed`, `dead`, or `stale` if the user is deleted.
    """
    status: str | None = await connection.fetchval(
        _PARK_EVENT,
        event.id,
        event.type,
        event.instance_id,
        event.clerk_id,
        event.payload,
        error.reason,
        error.table,
        error.column,
        max_attempts,
        pause,
        error.constraint,
        error.function,
        event.error is None,
        error.parent_id,
        event.user_id,
    )
    return status


def row_for(queries: Queries, snapshot: Snapshot) -> Row:
    """Return the row that shows this snapshot, in the form that the columns take."""
    row, truncated = queries.bound.build_row(snapshot)
    if truncated:
        log.warning("value_truncated", table=queries.bound.mapping.name, columns=truncated)
    return row


def raise_if_not_written(bound: BoundConnection, error: asyncpg.PostgresError) -> None:
    """Raise `ChangeRejected` if a trigger or a rule of the app prevented the row, or kept it.

    PostgreSQL does not name the rule, but refuses the statement because of it.
    """
    mapping, table = bound.queries.bound.mapping, bound.queries.bound.table
    rules = find_refusing_rules(mapping, table) if error.sqlstate == RULE_SQLSTATE else []
    if rules or error.sqlstate == NOT_WRITTEN_SQLSTATE:
        rejection = ChangeRejected(ROW_NOT_WRITTEN, sqlstate=NOT_WRITTEN_SQLSTATE, table=table.name)
        rejection.constraint = next(iter(rules), None)
        raise rejection from error


def _list_values(values: Sequence[object]) -> list[object] | None:
    # Changes that did not come by webhook have no ID and no payload. `unnest` reads null as an array of nulls.
    return None if all(value is None for value in values) else list(values)


def _clerk_ids(events: Sequence[Event]) -> list[str]:
    return sorted({event.clerk_id for event in events if event.clerk_id})


def _event_parameters(
    queries: Queries, event: Event, row: Row | None, orphans: Collection[str | None], *, is_stored: bool
) -> tuple[object, ...]:
    is_orphan = event.clerk_id in orphans
    if is_orphan or not isinstance(event.change, Snapshot):
        kind = ORPHAN if is_orphan else "none"
        return astuple(_EventParameters(event.id, event.type, event.instance_id, event.clerk_id, kind))
    version = queries.bound.mapping.compute_version(event.change)
    user_row = row_for(queries, event.change) if row is None else row
    return astuple(
        _EventParameters(
            event_id=event.id,
            type=event.type,
            instance_id=event.instance_id,
            clerk_id=event.clerk_id,
            kind="snapshot",
            version=version.updated_at,
            tiebreak=version.tiebreak,
            payload=_IN_INBOX if is_stored else event.payload,
            user_row=msgspec.json.encode(user_row).decode(),
        )
    )


# In place of a payload that the inbox has already, and keeps. It is a value: SQL's null would remove the payload.
_IN_INBOX = "null"

# PostgreSQL 17 added the last one. The settings end with the transaction.
LIFT_LIMITS = """
select set_config(name, '0', true) from pg_settings
where name in ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
"""

_FILE_DELETIONS = read_sql(__package__, "file_deletions.sql")
_PARK_EVENT = read_sql(__package__, "park_event.sql")
