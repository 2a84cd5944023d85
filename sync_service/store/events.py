"""The inbox for operators: a list by filter, one event in full, pages to replay, the history of one user."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from sync_service.clerk.events import HANDLED_TYPES, SNAPSHOT_TYPES, Event, event_from_row
from sync_service.clerk.json_repair import parse_tolerantly
from sync_service.mapping.queries import LookupQueries
from sync_service.postgres.pool import Connection, Database

PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Filter:
    """A selection of events; None selects all."""

    status: str | None = None
    type: str | None = None
    clerk_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def list_events(connection: Connection, selection: Filter, limit: int) -> list[dict[str, Any]]:
    """Return up to `limit` events without their payloads, the newest first."""
    rows = await connection.fetch(_LIST, *_parameters(selection), limit)
    return [dict(row) for row in rows]


async def get_event(connection: Connection, message_id: str) -> dict[str, Any] | None:
    """Return one event with its failures and its payload, or None."""
    row = await connection.fetchrow("select * from clerk_sync.events where id = $1", message_id)
    if row is None:
        return None
    decoded = {name: decode_json(row[name]) for name in ("payload", "failures") if row[name]}
    return dict(row) | decoded


def decode_json(text: str) -> Any:
    """Return the value of a jsonb text. PostgreSQL stores longer numbers than Python reads; those become None."""
    value, _ = parse_tolerantly(msgspec.json.decode, text.encode())
    return value


async def count_events(connection: Connection, selection: Filter) -> int:
    """Return the number of events that a replay would apply."""
    return int(await connection.fetchval(_COUNT, *_parameters(selection), HANDLED_TYPES))


async def iter_pages(connection: Connection, selection: Filter) -> AsyncIterator[list[Event]]:
    """Yield the events to replay, the oldest first, a page at a time; types that are not handled are left out."""
    after: tuple[datetime | None, str] = (None, "")
    while True:
        rows = await connection.fetch(_PAGE, *_parameters(selection), HANDLED_TYPES, *after, PAGE_SIZE)
        if not rows:
            return
        yield [event_from_row(dict(row)) for row in rows]
        after = (rows[-1]["received_at"], rows[-1]["id"])


async def iter_last_states(database: Database) -> AsyncIterator[list[Event]]:
    """Yield the event with the newest state of each user that the inbox still has, by Clerk ID, a page at a time."""
    last = ""
    while True:
        async with database.acquire() as connection:
            rows = await connection.fetch(_LAST_STATES, last, SNAPSHOT_TYPES, PAGE_SIZE)
        if rows:
            yield [event_from_row(dict(row)) for row in rows]
        if len(rows) < PAGE_SIZE:
            return
        last = rows[-1]["clerk_id"]


async def list_newest_states(connection: Connection, limit: int) -> list[Event]:
    """Return the events among the newest `limit` ones that have the version that the identity of their user has."""
    return [event_from_row(dict(row)) for row in await connection.fetch(_NEWEST_STATES, SNAPSHOT_TYPES, limit)]


async def get_events(connection: Connection, ids: list[str]) -> list[Event]:
    """Return the events with these IDs, in the same order; unknown IDs are left out."""
    rows = await connection.fetch(_BY_ID, ids)
    return [event_from_row(dict(row)) for row in rows]


async def get_user_history(connection: Connection, lookups: LookupQueries, clerk_id: str) -> dict[str, Any]:
    """Return `{"clerk_id", "row", "identity", "events"}`: the row, the version or tombstone, the 50 newest events.

    `row` and `identity` are None where there is none. Raises the errors of asyncpg.
    """
    row = await connection.fetchval(lookups.row, clerk_id)
    identity = await connection.fetchrow(_IDENTITY, clerk_id)
    return {
        "clerk_id": clerk_id,
        "row": decode_json(row) if row else None,
        "identity": dict(identity) if identity else None,
        "events": [dict(event) for event in await connection.fetch(_HISTORY, clerk_id)],
    }


def _parameters(selection: Filter) -> tuple[object, ...]:
    return selection.status, selection.type, selection.clerk_id, selection.since, selection.until


_WHERE = """
where ($1::text is null or status = $1) and ($2::text is null or type = $2) and ($3::text is null or clerk_id = $3)
    and ($4::timestamptz is null or received_at >= $4) and ($5::timestamptz is null or received_at < $5)
"""

_LIST = f"""
select id, type, clerk_id, status, reason, attempts, received_at, next_attempt_at, finished_at
from clerk_sync.events {_WHERE}
order by received_at desc, id desc limit $6
"""  # noqa: S608  constant text

_COUNT = f"select count(*) from clerk_sync.events {_WHERE} and type = any($6)"  # noqa: S608  constant text

_PAGE = f"""
select id, type, instance_id, clerk_id, payload, received_at
from clerk_sync.events {_WHERE} and type = any($6)
    and ($7::timestamptz is null or (received_at, id) > ($7, $8::text))
order by received_at, id limit $9
"""  # noqa: S608  constant text

_BY_ID = """
select id, type, instance_id, clerk_id, payload
from clerk_sync.events join unnest($1::text[]) with ordinality as wanted (id, n) using (id)
order by n
"""

_IDENTITY = """
select version, deleted_at, restored_at, created_by, first_seen_at, changed_at
from clerk_sync.identities where clerk_id = $1
"""

_HISTORY = """
select id, type, status, reason, attempts, received_at, next_attempt_at, finished_at
from clerk_sync.events where clerk_id = $1 order by received_at desc, id limit 50
"""

_LAST_STATES = """
select distinct on (clerk_id) id, type, instance_id, clerk_id, payload
from clerk_sync.events
where clerk_id > $1 and type = any($2) and payload is not null
order by
    clerk_id,
    case when jsonb_typeof(payload -> 'updated_at') = 'number' then (payload ->> 'updated_at')::numeric end
        desc nulls last,
    received_at desc
limit $3
"""

_NEWEST_STATES = """
select distinct on (clerk_id) newest.id, newest.type, newest.instance_id, clerk_id, newest.payload
from (
    select * from clerk_sync.events where type = any($1) and payload is not null order by received_at desc limit $2
) as newest
join clerk_sync.identities as known using (clerk_id)
where known.deleted_at is null
    and case
        when jsonb_typeof(newest.payload -> 'updated_at') = 'number'
        then trunc((newest.payload ->> 'updated_at')::numeric) = known.version
    end
order by clerk_id, newest.received_at desc
"""
