"""The inbox for operators: a list by filter, one event in full, pages to replay."""

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from sync_service.clerk.entities import DELETION_TYPES, SESSION, USER, Entity
from sync_service.clerk.events import HANDLED_TYPES, USER_SNAPSHOT_TYPES, Event
from sync_service.clerk.json_repair import parse_tolerantly, repair_json
from sync_service.clerk.stored_events import event_from_row
from sync_service.postgres.pool import Connection, Database
from sync_service.postgres.sql import fill_gaps, read_sql
from sync_service.store.event_cursor import EventPosition
from sync_service.store.event_filter import Filter, render_filter

PAGE_SIZE = 100


class EventSummary(Struct, frozen=True):
    """An event without its payload."""

    id: str
    type: str
    clerk_id: str | None
    status: str
    reason: str | None
    attempts: int
    received_at: datetime
    next_attempt_at: datetime | None
    finished_at: datetime | None

    @property
    def position(self) -> EventPosition:
        """The place of the event in a list."""
        return EventPosition(self.received_at, self.id)


class Failure(Struct, frozen=True):
    """One failed attempt. `function` is the app's PL/pgSQL function that raised the error, mostly of a trigger."""

    at: datetime
    reason: str | None
    table: str | None
    column: str | None
    constraint: str | None
    function: str | UnsetType = UNSET


class EventDetail(EventSummary, frozen=True):
    """An event with its failed attempts, the oldest first, and its payload: Clerk's user as JSON, or null."""

    failures: list[Failure]
    payload: Raw


async def list_events(
    connection: Connection, selection: Filter, limit: int, after: EventPosition | None = None
) -> list[EventSummary]:
    """Return up to `limit` events, the newest first, that follow `after` in the list."""
    sql, parameters = _render(_LIST, selection, first=4)
    place = (after.received_at, after.id) if after else (None, "")
    return [EventSummary(*row) for row in await connection.fetch(sql, limit, *place, *parameters)]


async def get_event(connection: Connection, message_id: str) -> EventDetail | None:
    """Return one event with its failures and its payload, or None."""
    row = await connection.fetchrow(_GET, message_id)
    if row is None:
        return None
    # An older release stored numbers and nesting that many readers of JSON refuse.
    payload, _ = repair_json((row["payload"] or "null").encode())
    return EventDetail(**dict(row) | {"failures": _failures_decoder.decode(row["failures"]), "payload": Raw(payload)})


def decode_json(text: str) -> Any:
    """Return the value of a jsonb text. PostgreSQL stores longer numbers than Python reads; those become None."""
    value, _ = parse_tolerantly(msgspec.json.decode, text.encode())
    return value


async def count_events(connection: Connection, selection: Filter) -> tuple[int, datetime]:
    """Return the number of events that a replay would apply, and the time of the count."""
    sql, parameters = _render(_COUNT, selection, first=3)
    row = await connection.fetchrow(sql, HANDLED_TYPES, DELETION_TYPES, *parameters)
    assert row is not None  # noqa: S101  an aggregate always returns one row
    return row["events"], row["counted_at"]


async def iter_pages(database: Database, selection: Filter) -> AsyncGenerator[tuple[datetime, list[Event]], None]:
    """Yield the events to replay, the oldest first, a page at a time, each with the time of its first event.

    No connection is held between two pages.
    """
    sql, parameters = _render(_PAGE, selection, first=6)
    after: tuple[datetime | None, str] = (None, "")
    while True:
        async with database.acquire() as connection:
            rows = await connection.fetch(sql, HANDLED_TYPES, DELETION_TYPES, PAGE_SIZE, *after, *parameters)
        if rows:
            yield rows[0]["received_at"], [event_from_row(dict(row)) for row in rows]
        if len(rows) < PAGE_SIZE:
            return
        after = (rows[-1]["received_at"], rows[-1]["id"])


async def iter_last_states(database: Database, entity: Entity) -> AsyncIterator[list[Event]]:
    """Yield the event with the newest state of each object that the inbox still has, by Clerk ID, a page at a time."""
    last, types = "", USER_SNAPSHOT_TYPES if entity is USER else entity.snapshots
    while True:
        async with database.acquire() as connection:
            rows = await connection.fetch(_LAST_STATES, last, types, PAGE_SIZE, entity is SESSION)
        if rows:
            yield [event_from_row(dict(row)) for row in rows]
        if len(rows) < PAGE_SIZE:
            return
        last = rows[-1]["clerk_id"]


async def list_newest_states(connection: Connection, limit: int) -> list[Event]:
    """Return the events among the newest `limit` ones that have the version that the identity of their user has."""
    return [event_from_row(dict(row)) for row in await connection.fetch(_NEWEST_STATES, USER_SNAPSHOT_TYPES, limit)]


async def get_events(connection: Connection, ids: list[str]) -> list[Event]:
    """Return the events with these IDs, in the same order; unknown IDs are left out."""
    rows = await connection.fetch(_BY_ID, ids)
    return [event_from_row(dict(row)) for row in rows]


def _render(sql: str, selection: Filter, first: int) -> tuple[str, list[object]]:
    conditions, parameters = render_filter(selection, first)
    return fill_gaps(sql, {"conditions": conditions}), parameters


_failures_decoder = msgspec.json.Decoder(list[Failure])

_LIST = read_sql(__package__, "list_events.sql")
_COUNT = read_sql(__package__, "count_events.sql")
_PAGE = read_sql(__package__, "replay_events.sql")

_GET = """
select
    id, type, clerk_id, status, reason, attempts, received_at, next_attempt_at, finished_at, failures, payload
from clerk_sync.events where id = $1
"""

_BY_ID = """
select id, type, instance_id, clerk_id, user_id, payload
from clerk_sync.events join unnest($1::text[]) with ordinality as wanted (id, n) using (id)
order by n
"""

_LAST_STATES = """
select distinct on (clerk_id) id, type, instance_id, clerk_id, user_id, payload
from clerk_sync.events
where clerk_id > $1 and type = any($2) and payload is not null
    -- Without a table for sessions, the payload of `session.created` is its user.
    and (payload ->> 'object' is not distinct from 'session') = $4
order by
    clerk_id,
    case when jsonb_typeof(payload -> 'updated_at') = 'number' then (payload ->> 'updated_at')::numeric end
        desc nulls last,
    received_at desc
limit $3
"""

_NEWEST_STATES = """
select distinct on (clerk_id) newest.id, newest.type, newest.instance_id, clerk_id, newest.user_id, newest.payload
from (
    select * from clerk_sync.events
    where type = any($1) and payload is not null and payload ->> 'object' is distinct from 'session'
    order by received_at desc
    limit $2
) as newest
join clerk_sync.identities as known using (clerk_id)
where known.deleted_at is null
    and case
        when jsonb_typeof(newest.payload -> 'updated_at') = 'number'
        then trunc((newest.payload ->> 'updated_at')::numeric) = known.version
    end
order by clerk_id, newest.received_at desc
"""
