"""The inbox as a queue: events that are due for another attempt, and retention."""

from datetime import timedelta

from sync_service.clerk.entities import DELETION_TYPES
from sync_service.clerk.events import Event
from sync_service.clerk.stored_events import event_from_row
from sync_service.postgres.pool import Connection

# A claim is a lease. After a crash it expires and another process retries the event. It is long enough for a deletion
# that cascades through millions of rows; should one take longer, the second attempt waits for the first.
LEASE = timedelta(minutes=10)

# Any other attempt is shorter: 50 locked users, two at a time, take 75 s. After a crash the events wait no longer.
SAVE_LEASE = timedelta(minutes=2)

# Svix keeps messages for up to 90 days and can replay them. Until then a row without payload still detects duplicates.
REPLAY_WINDOW = timedelta(days=90)


async def claim_due(connection: Connection, limit: int, *, deletions: bool = False) -> list[Event]:
    """Return up to `limit` failed events that are due, deletions or all others, leased to the caller."""
    lease = LEASE if deletions else SAVE_LEASE
    rows = await connection.fetch(_CLAIM, limit, lease, DELETION_TYPES, deletions)
    return [event_from_row(dict(row)) for row in rows]


async def prune(connection: Connection, retention: timedelta, limit: int) -> int:
    """Remove payloads of finished events older than `retention`, later their rows; return the number of both.

    Each statement handles `limit` rows and skips locked ones, so that none runs long. Failed and dead events stay,
    unless their user's ID is unreadable: no deletion could remove the data in those.
    """
    payloads = await connection.execute(_PRUNE_PAYLOADS, limit, retention)
    rows = await connection.execute(_PRUNE_ROWS, limit, retention + REPLAY_WINDOW)
    unreadable = await connection.execute(_PRUNE_UNREADABLE, limit, retention)
    return sum(int(tag.rpartition(" ")[2]) for tag in (payloads, rows, unreadable))


async def seconds_until_due(connection: Connection, *, can_refetch: bool, can_delete: bool = True) -> float | None:
    """Return the seconds until there is work: 0 or less means now, None means that no work is known.

    `can_refetch` tells whether Clerk can be asked about users with a pending refetch, `can_delete` whether another
    deletion may start.
    """
    seconds: float | None = await connection.fetchval(_UNTIL_DUE, can_refetch, can_delete, DELETION_TYPES)
    return seconds


_CLAIM = """
update clerk_sync.events as e
set next_attempt_at = now() + $2
from (
    select id from clerk_sync.events
    where status = 'failed' and next_attempt_at <= now() and (type = any($3)) = $4
    order by next_attempt_at
    limit $1
    for update skip locked
) as due
where e.id = due.id
returning e.id, e.type, e.instance_id, e.clerk_id, e.user_id, e.payload
"""

# The order and the array make PostgreSQL use indexes. It knows neither the interval nor the limit when it plans, and
# would else expect that a scan of the table soon finds enough rows. An event is received before it is finished, and
# the index of the first time also has the rows without a payload.
_PRUNE_PAYLOADS = """
update clerk_sync.events set payload = null
where id = any(array(
    select id from clerk_sync.events
    where payload is not null and finished_at < now() - $2::interval
    order by finished_at
    limit $1
    for update skip locked
))
"""

_PRUNE_ROWS = """
delete from clerk_sync.events
where id = any(array(
    select id from clerk_sync.events
    where received_at < now() - $2::interval and finished_at < now() - $2::interval and payload is null
    order by received_at
    limit $1
    for update skip locked
))
"""

_PRUNE_UNREADABLE = """
delete from clerk_sync.events
where id in (
    select id from clerk_sync.events
    where clerk_id is null and finished_at is null and received_at < now() - $2::interval
    order by received_at
    limit $1
    for update skip locked
)
"""

_UNTIL_DUE = """
select least(
    extract(epoch from min(next_attempt_at) - now())::float8,
    -- An email becomes free without notice when the application changes a row, so the first hour polls for it. After
    -- that it is restored together with other work, so that a sleeping database is not woken.
    (select 5 from clerk_sync.identities where email_pending and changed_at > now() - interval '1 hour' limit 1),
    (select 5 from clerk_sync.identities where $1 and refetch_pending and deleted_at is null limit 1)
)
from clerk_sync.events where status = 'failed' and ($2 or type <> all($3))
"""
