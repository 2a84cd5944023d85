"""What became of an event; and where it goes that cannot be applied now."""

import contextlib
from datetime import timedelta

import asyncpg
import structlog
from msgspec import Struct

from sync_service.clerk.events import Event
from sync_service.clerk.values import Snapshot
from sync_service.errors import DatabaseFault, Unappliable, Unavailable
from sync_service.postgres.faults import translated
from sync_service.postgres.inbox import park, refused_column
from sync_service.postgres.statements import Statements

log = structlog.get_logger()


class Outcome(Struct, frozen=True):
    """What became of one event.

    Committed: applied, stale, duplicate, ignored, or parked with the class of the fault. Not committed: `unavailable`,
    to be sent again; `unstorable`, for PostgreSQL's jsonb cannot hold it (NUL in a text, 1e99999).
    """

    outcome: str
    reason: str | None = None


async def parked(
    pool: asyncpg.Pool, event: Event, fault: DatabaseFault, *, source: str, max_attempts: int, pause: timedelta
) -> Outcome:
    """File an event that cannot be applied now, to be tried again after a `pause`; return what that comes to."""
    told = log.bind(table=fault.table, column=fault.column, constraint=fault.constraint)
    if event.id is None:  # no message, nothing to keep; whoever told of it tells again
        told.warning("not applied", reason=fault.reason)
        return Outcome("unstorable" if fault.sqlstate.startswith("22") else "unavailable", fault.reason)
    told.warning("parked", reason=fault.reason)
    try:
        with translated():
            async with pool.acquire() as connection:
                status = await park(
                    connection,
                    event,
                    fault,
                    source=source,
                    max_attempts=max_attempts,
                    pause=pause,
                )
    except Unappliable as other:
        if other.sqlstate.startswith("22"):
            return Outcome("unstorable", other.reason)
        # Not even the inbox takes it: a privilege is missing, say. Svix keeps it until somebody has seen to that.
        return Outcome("unavailable", other.reason)
    except Unavailable as other:
        return Outcome("unavailable", other.reason)
    return Outcome("parked", fault.reason) if status else Outcome("duplicate")


async def find_column(pool: asyncpg.Pool, statements: Statements, fault: Unappliable, snapshot: Snapshot) -> None:
    """Note in the fault which column a value does not fit, for PostgreSQL does not say."""
    with contextlib.suppress(DatabaseFault), translated():
        async with pool.acquire() as connection:
            fault.column = await refused_column(connection, statements, snapshot)
    if fault.column:
        fault.table = statements.mapping.table
