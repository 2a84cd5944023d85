"""Failed and dead events by their cause, for operators."""

from datetime import datetime

from msgspec import Struct

from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import read_sql
from sync_service.store.event_filter import FailurePlace, Filter

MAX_GROUPS = 100

# The newest events of each status that are grouped. The summary has the numbers of all.
MAX_EVENTS = 5_000


class FailureGroup(Struct, frozen=True):
    """Events that failed last for the same reason at the same place; `newest` and `oldest` are their IDs."""

    status: str
    type: str
    reason: str | None
    table: str | None
    column: str | None
    constraint: str | None
    events: int
    users: int
    first_received_at: datetime
    last_received_at: datetime
    newest: str
    oldest: str

    @property
    def filter(self) -> Filter:
        """The filter that selects the events of this group, and no other."""
        place = FailurePlace(self.table, self.column, self.constraint)
        return Filter(status=self.status, type=self.type, reason=self.reason, place=place)


async def list_failure_groups(connection: Connection) -> list[FailureGroup]:
    """Return the groups: dead events first, then those with the most events."""
    return [FailureGroup(*row) for row in await connection.fetch(_GROUPS, MAX_GROUPS, MAX_EVENTS)]


_GROUPS = read_sql(__package__, "failure_groups.sql")
