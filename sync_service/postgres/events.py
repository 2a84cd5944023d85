"""The inbox as operators look at it: a list by filter, one event whole, pages to replay, what a replay would change."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from sync_service.clerk.events import HANDLED, Event, event_of_inbox
from sync_service.clerk.values import Deletion
from sync_service.postgres.inbox import apply_changes, delete_rows
from sync_service.postgres.pool import Connection
from sync_service.postgres.statements import Statements

PAGE = 100


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events; None is all."""

    status: str | None = None
    type: str | None = None
    clerk_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def list_events(connection: Connection, wanted: Filter, limit: int) -> list[dict[str, Any]]:
    """Return up to `limit` events without their payloads, the newest first."""
    rows = await connection.fetch(_LIST, *_parameters(wanted), limit)
    return [dict(row) for row in rows]


async def show_event(connection: Connection, message_id: str) -> dict[str, Any] | None:
    """Return one event with its failures and its payload, or None."""
    row = await connection.fetchrow("select * from clerk_sync.events where id = $1", message_id)
    if row is None:
        return None
    decoded = {name: msgspec.json.decode(row[name]) for name in ("payload", "failures") if row[name]}
    return dict(row) | decoded


async def count_events(connection: Connection, wanted: Filter) -> int:
    """Return how many events there are to replay."""
    return int(await connection.fetchval(_COUNT, *_parameters(wanted), HANDLED))


async def pages(connection: Connection, wanted: Filter) -> AsyncIterator[list[Event]]:
    """Yield the events to replay, the oldest first, a page at a time; types that are not handled are left out."""
    after: tuple[datetime | None, str] = (None, "")
    while True:
        rows = await connection.fetch(_PAGE, *_parameters(wanted), HANDLED, *after, PAGE)
        if not rows:
            return
        yield [event_of_inbox(dict(row)) for row in rows]
        after = (rows[-1]["received_at"], rows[-1]["id"])


async def events_by_id(connection: Connection, ids: list[str]) -> list[Event]:
    """Return the events of these IDs, in their order; those that are not there are left out."""
    rows = await connection.fetch(_BY_ID, ids)
    return [event_of_inbox(dict(row)) for row in rows]


async def preview(connection: Connection, statements: Statements, event: Event) -> tuple[Any, Any]:
    """Return the row before and after a replay of `event`, which is then undone. Raises what asyncpg raises."""
    clerk_id = event.clerk_id
    transaction = connection.transaction()
    await transaction.start()
    try:
        before = await connection.fetchval(statements.row, clerk_id)
        if not event.fault:
            await apply_changes(connection, statements, [event], source="replay", patience_ms=1000)
            if isinstance(event.change, Deletion) and clerk_id:
                await delete_rows(connection, statements, [clerk_id], seconds=60)
        after = await connection.fetchval(statements.row, clerk_id)
    finally:
        await transaction.rollback()
    return tuple(msgspec.json.decode(row) if row else None for row in (before, after))  # type: ignore[return-value]  # two


def _parameters(wanted: Filter) -> tuple[object, ...]:
    return wanted.status, wanted.type, wanted.clerk_id, wanted.since, wanted.until


_WHERE = """
where ($1::text is null or status = $1) and ($2::text is null or type = $2) and ($3::text is null or clerk_id = $3)
    and ($4::timestamptz is null or received_at >= $4) and ($5::timestamptz is null or received_at < $5)
"""

_LIST = f"""
select id, type, clerk_id, status, reason, attempts, received_at, next_attempt_at, finished_at
from clerk_sync.events {_WHERE}
order by received_at desc, id desc limit $6
"""  # noqa: S608  our own words

_COUNT = f"select count(*) from clerk_sync.events {_WHERE} and type = any($6)"  # noqa: S608  our own words

_PAGE = f"""
select id, type, instance_id, clerk_id, payload, received_at
from clerk_sync.events {_WHERE} and type = any($6)
    and ($7::timestamptz is null or (received_at, id) > ($7, $8::text))
order by received_at, id limit $9
"""  # noqa: S608  our own words

_BY_ID = """
select id, type, instance_id, clerk_id, payload
from clerk_sync.events join unnest($1::text[]) with ordinality as wanted (id, n) using (id)
order by n
"""
