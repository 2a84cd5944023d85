"""The state of the inbox in figures, for operators."""

from datetime import datetime

import asyncpg
import msgspec
from msgspec import Struct

from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import read_sql
from sync_service.store.event_filter import STATUSES


class InboxSummary(Struct, frozen=True):
    """`events` has the number of each status; `backlog` counts failed events. `at` is the time of the database."""

    events: dict[str, int]
    backlog: int
    oldest_waiting_at: datetime | None
    last_event_at: datetime | None
    missed_webhooks: int
    at: datetime

    @property
    def lag_seconds(self) -> float:
        """The age of the oldest failed event; 0 if none waits."""
        return (self.at - self.oldest_waiting_at).total_seconds() if self.oldest_waiting_at else 0.0


class HourCount(Struct, frozen=True):
    """The events of one hour, by status."""

    hour: datetime
    events: dict[str, int]


async def read_summary(connection: Connection) -> InboxSummary:
    """Return the state of the inbox."""
    row = await connection.fetchrow(_SUMMARY)
    assert row is not None  # noqa: S101  a statement without FROM always returns one row
    events = _count_statuses(row)
    times = row["oldest_waiting_at"], row["last_event_at"]
    return InboxSummary(events, events["failed"], *times, row["missed_webhooks"], row["at"])


async def count_by_hour(connection: Connection, hours: int) -> list[HourCount]:
    """Return the events of each of the last hours, the oldest first; the last hour is not over."""
    return [HourCount(row["hour"], _count_statuses(row)) for row in await connection.fetch(_BY_HOUR, hours)]


def _count_statuses(row: asyncpg.Record) -> dict[str, int]:
    others = msgspec.json.decode(row["others"], type=dict[str, int])
    return dict.fromkeys(STATUSES, 0) | others | {"applied": row["events"] - sum(others.values())}


_SUMMARY = read_sql(__package__, "summary.sql")
_BY_HOUR = read_sql(__package__, "count_by_hour.sql")
