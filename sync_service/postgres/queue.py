"""The inbox as a queue: what waits for another attempt, and what may be forgotten."""

from datetime import timedelta

from sync_service.clerk.events import Event, event_of_inbox
from sync_service.postgres.pool import Connection

# A claim is a lease: whoever crashes with it loses it after this, and somebody else tries. Long enough for a
# deletion that cascades through millions of rows; should it take longer, a second one waits for the first.
LEASE = timedelta(minutes=10)

# Svix replays what it has kept for up to 90 days; until then a row without its payload still tells a duplicate.
REPLAYS = timedelta(days=90)


async def claim_due(connection: Connection, limit: int) -> list[Event]:
    """Return up to `limit` failed events whose time has come, leased to the caller."""
    return [event_of_inbox(dict(row)) for row in await connection.fetch(_CLAIM, limit, LEASE)]


async def forget(connection: Connection, retention: timedelta, limit: int) -> int:
    """Remove payloads of what is finished and older than `retention`, later the rows; return how many of both.

    In batches of `limit`, passing over what is locked: no statement holds anybody up. Failed and dead events stay.
    """
    payloads = await connection.execute(_FORGET_PAYLOADS, limit, retention)
    rows = await connection.execute(_FORGET_ROWS, limit, retention + REPLAYS)
    return sum(int(tag.rpartition(" ")[2]) for tag in (payloads, rows))


async def seconds_until_due(connection: Connection, *, can_ask: bool) -> float | None:
    """Return when there is something to do: 0 or less is now, None is nothing that is known.

    `can_ask` is whether Clerk can be asked at all about what only it knows.
    """
    seconds: float | None = await connection.fetchval(_UNTIL_DUE, can_ask)
    return seconds


_CLAIM = """
update clerk_sync.events as e
set next_attempt_at = now() + $2
from (
    select id from clerk_sync.events
    where status = 'failed' and next_attempt_at <= now()
    order by next_attempt_at
    limit $1
    for update skip locked
) as due
where e.id = due.id
returning e.id, e.type, e.instance_id, e.clerk_id, e.payload
"""

_FORGET_PAYLOADS = """
update clerk_sync.events set payload = null
where id in (
    select id from clerk_sync.events
    where payload is not null and finished_at < now() - $2::interval
    limit $1
    for update skip locked
)
"""

_FORGET_ROWS = """
delete from clerk_sync.events
where id in (
    select id from clerk_sync.events
    where finished_at < now() - $2::interval and payload is null
    limit $1
    for update skip locked
)
"""

_UNTIL_DUE = """
select least(
    extract(epoch from min(next_attempt_at) - now())::float8,
    -- An address becomes free without a word to us when the app itself changes a row. After an hour of looking for it
    -- often, it is looked for with all else: a database that sleeps is let sleep.
    (select 5 from clerk_sync.identities where address_wanted and changed_at > now() - interval '1 hour' limit 1),
    (select 5 from clerk_sync.identities where $1 and refetch_wanted and deleted_at is null limit 1)
)
from clerk_sync.events where status = 'failed'
"""
