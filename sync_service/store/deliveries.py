"""Deliveries of changes to the app, as a queue: in order for each user, leased to one process at a time."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg
from msgspec import Struct

from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import read_sql
from sync_service.store.access import Store
from sync_service.store.feed import FeedEntry, FeedPosition, make_entry

DELIVERY_STATUSES = ("pending", "delivered", "dead")

# After a crash another process sends again. It is longer than a request may take.
LEASE = timedelta(seconds=60)


class Notification(Struct, frozen=True):
    """One change that is due. `row` is JSON text, None after a deletion; `attempts` have failed before."""

    entry: FeedEntry
    attempts: int
    row: str | None
    is_deleted: bool


class Result(Struct, frozen=True):
    """The end of one attempt: `reason` is None after a success, `pause` is None if no attempt follows."""

    position: FeedPosition
    reason: str | None = None
    pause: timedelta | None = None

    @property
    def outcome(self) -> str:
        """The outcome as the metrics count it."""
        if self.reason is None:
            return "delivered"
        return "dead" if self.pause is None else "failed"


class Delivery(Struct, frozen=True):
    """One change and its delivery, for operators. `status` is None if the change is not posted."""

    id: str
    type: str
    clerk_id: str
    columns: list[str]
    status: str | None
    reason: str | None
    attempts: int
    at: datetime
    next_attempt_at: datetime | None


async def claim_notifications(store: Store, connection: Connection, limit: int) -> list[Notification]:
    """Return changes that are due, leased to the caller: of each user only the first that is not delivered.

    Raises `DatabaseError` and the errors of asyncpg.
    """
    rows = await connection.fetch(_CLAIM, limit, LEASE)
    due = {row["clerk_id"]: row for row in rows if row["is_first"]}
    ids_by_entity: dict[str, list[str]] = defaultdict(list)
    for clerk_id, row in due.items():
        ids_by_entity[row["type"].partition(".")[0]].append(clerk_id)
    shown: dict[str, asyncpg.Record] = {}
    for entity, clerk_ids in ids_by_entity.items():
        # A section of sync.toml that is gone leaves entries without a row.
        if entity in store.bindings:
            bound = await store.for_entity(entity).bind(connection)
            shown |= {
                row["clerk_id"]: row for row in await connection.fetch(bound.queries.notification_rows, clerk_ids)
            }
    return [_make_notification(row, shown.get(clerk_id)) for clerk_id, row in due.items()]


def _make_notification(row: asyncpg.Record, shown: asyncpg.Record | None) -> Notification:
    is_deleted = shown is None or shown["is_deleted"]
    content = None if shown is None or is_deleted else shown["content"]
    return Notification(make_entry(row), row["attempts"], content, is_deleted)


async def store_results(connection: Connection, results: Sequence[Result]) -> None:
    """Store the ends of attempts. After the last attempt of a change the user's next one is due."""
    await connection.execute(
        _STORE,
        [str(result.position.transaction_id) for result in results],
        [result.position.number for result in results],
        [result.outcome for result in results],
        [result.reason for result in results],
        [result.pause for result in results],
    )


async def seconds_until_attempt(connection: Connection) -> float | None:
    """Return the seconds until an attempt is due, None if no delivery is pending."""
    seconds: float | None = await connection.fetchval(_UNTIL_ATTEMPT)
    return seconds


async def list_deliveries(
    connection: Connection, status: str | None, limit: int, before: FeedPosition | None = None
) -> list[Delivery]:
    """Return deliveries, the newest first; without a status those that have failed."""
    rows = await connection.fetch(_LIST, status, limit, before.number if before else None)
    return [Delivery(*row) for row in rows]


async def list_user_changes(connection: Connection, clerk_id: str, limit: int) -> list[Delivery]:
    """Return the changes of one user, the newest first."""
    return [Delivery(*row) for row in await connection.fetch(_LIST_OF_USER, limit, clerk_id)]


async def replay_delivery(connection: Connection, position: FeedPosition) -> bool:
    """Make a delivery due with all its attempts; return whether there is one."""
    tag = await connection.execute(_REPLAY, str(position.transaction_id), position.number)
    return bool(tag != "UPDATE 0")


async def replay_dead_deliveries(connection: Connection) -> int:
    """Make all dead deliveries due; return their number."""
    tag = await connection.execute(_REPLAY_DEAD)
    return int(tag.rpartition(" ")[2])


async def count_failed_deliveries(connection: Connection) -> int:
    """Return the number of dead deliveries, and of those that have failed and are attempted again."""
    return int(await connection.fetchval(_COUNT_FAILED))


_CLAIM = read_sql(__package__, "claim_deliveries.sql")
_STORE = read_sql(__package__, "store_deliveries.sql")

_UNTIL_ATTEMPT = """
select extract(epoch from min(next_attempt_at) - now())::float8 from clerk_sync.changes where delivery = 'pending'
"""

_DELIVERIES = """
select
    'chg_' || transaction_id::text || '-' || id, type, clerk_id, columns, delivery, reason, attempts, at,
    next_attempt_at
from clerk_sync.changes
"""

_LIST_OF_USER = f"{_DELIVERIES} where clerk_id = $2 order by id desc limit $1"

_LIST = f"""
{_DELIVERIES}
where (delivery = $1 or ($1 is null and (delivery = 'dead' or (delivery = 'pending' and attempts > 0))))
    and id < coalesce($3, 9223372036854775807)
order by id desc
limit $2
"""

_REPLAY = """
update clerk_sync.changes set delivery = 'pending', attempts = 0, next_attempt_at = now()
where (transaction_id, id) = ($1::text::xid8, $2) and delivery is not null
"""

_REPLAY_DEAD = """
update clerk_sync.changes set delivery = 'pending', attempts = 0, next_attempt_at = now() where delivery = 'dead'
"""

_COUNT_FAILED = """
select
    (select count(*) from clerk_sync.changes where delivery = 'dead')
    + (select count(*) from clerk_sync.changes where delivery = 'pending' and attempts > 0)
"""
