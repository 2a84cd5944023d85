"""Parks events that cannot be applied now: they are stored with their reason and tried again."""

import contextlib
from datetime import timedelta

import structlog

from sync_service.clerk.change import Snapshot
from sync_service.clerk.events import Event
from sync_service.errors import ChangeRejected, DatabaseError
from sync_service.store.access import Store
from sync_service.store.changes import FIRST_PAUSE, park_event
from sync_service.store.rows import find_rejected_column
from sync_service.sync.outcome import Outcome

log = structlog.get_logger()


async def park(
    store: Store, event: Event, error: DatabaseError, *, max_attempts: int, pause: timedelta = FIRST_PAUSE
) -> Outcome:
    """Store an event that cannot be applied, to be tried again after `pause`; return its outcome."""
    objects = {"table": error.table, "column": error.column, "constraint": error.constraint, "function": error.function}
    bound_log = log.bind(reason=error.reason, **objects)
    if event.id is None:  # no message of Svix, so there is no row; the source of the change repeats it
        bound_log.warning("not_applied")
        return Outcome("refused", error.reason)
    bound_log.warning("parked")
    try:
        async with store.database.acquire() as connection:
            status = await park_event(connection, event, error, max_attempts=max_attempts, pause=pause)
    except DatabaseError as other:
        # Also a rejection by the inbox itself, such as a missing privilege: Svix keeps the event.
        return Outcome("unavailable", other.reason)
    if status == "stale":
        return Outcome("stale")
    return Outcome("parked", error.reason) if status else Outcome("duplicate")


async def name_rejected_column(store: Store, error: ChangeRejected, snapshot: Snapshot) -> None:
    """Add to the error the column that rejects its value, because PostgreSQL does not report it."""
    with contextlib.suppress(DatabaseError):
        async with store.acquire() as bound:
            error.column = await find_rejected_column(bound, snapshot)
    if error.column:
        error.table = store.mapping.table
