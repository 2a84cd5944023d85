"""Applies once more what the inbox has kept: for the retry loop and for an operator's replay."""

from collections.abc import Sequence

from sync_service.clerk.events import Event
from sync_service.clerk.values import Deletion
from sync_service.errors import DatabaseFault
from sync_service.postgres.faults import translated
from sync_service.postgres.inbox import DELETE_GRACE, apply_changes, delete_rows, hold_back
from sync_service.postgres.queue import LEASE
from sync_service.sync.apply import PATIENCE_MS, Applier
from sync_service.sync.parking import Outcome


async def attempt(applier: Applier, events: Sequence[Event]) -> list[tuple[Event, Outcome]]:
    """Apply events once more, each deletion with as much time as it needs; return what became of each."""
    saves = [event for event in events if not isinstance(event.change, Deletion)]
    done = list(zip(saves, await applier.apply(saves), strict=True))
    for event in events:
        if isinstance(event.change, Deletion):
            try:
                done.append((event, await _delete(applier, event.change.clerk_id, event)))
            except DatabaseFault:
                # By the front door, which files what stands in the way.
                done += zip([event], await applier.apply([event]), strict=True)
    return done


async def _delete(applier: Applier, clerk_id: str, event: Event) -> Outcome:
    """Delete first, with no lock on the identity, so that whoever else asks of this user has an answer."""
    with translated():
        async with applier.pool.acquire() as connection, connection.transaction():
            if await hold_back(connection, applier.statements, event, source=applier.source):
                return Outcome("parked", DELETE_GRACE)
            await delete_rows(connection, applier.statements, [clerk_id], seconds=LEASE.total_seconds())
            [record] = await apply_changes(
                connection, applier.statements, [event], source=applier.source, patience_ms=PATIENCE_MS
            )
    return Outcome(record["status"])
