"""Snapshots: applied and filed by one statement for many events. Events that cannot be applied are parked."""

from collections.abc import Collection, Sequence
from datetime import timedelta

import asyncpg
import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from sync_service.clerk.change import Snapshot
from sync_service.clerk.entities import USER
from sync_service.clerk.events import Event
from sync_service.errors import DatabaseError
from sync_service.mapping.queries import Queries
from sync_service.mapping.table import Row
from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import read_sql
from sync_service.store.access import BoundConnection
from sync_service.store.rows import raise_if_not_written, row_for

# The pause before the second attempt. Each later pause is three times as long, up to an hour.
FIRST_PAUSE = timedelta(seconds=5)


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


async def note_replaced_values(connection: Connection, event_ids: Sequence[str]) -> None:
    """Note in the inbox that finished events were applied without some of their values."""
    await connection.execute(
        "update clerk_sync.events set reason = 'value_replaced' where id = any($1) and status in ('applied', 'stale')",
        event_ids,
    )


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


def _list_values(values: Sequence[object]) -> list[object] | None:
    # Changes that did not come by webhook have no ID and no payload. `unnest` reads null as an array of nulls.
    return None if all(value is None for value in values) else list(values)


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

_PARK_EVENT = read_sql(__package__, "park_event.sql")
