"""The only way to write a user: many changes in, the outcome of each one out, committed."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import asyncpg
import structlog

from sync_service.clerk.change import Deletion, Snapshot
from sync_service.clerk.events import Event
from sync_service.errors import ChangeRejected, DatabaseError, MappingMismatch
from sync_service.store.access import BoundConnection, Store
from sync_service.store.changes import DELETION_LEASE, FIRST_PAUSE, apply_changes, delete_users, note_replaced_values
from sync_service.store.email_claims import link_rows_by_email
from sync_service.store.identities import request_refetch
from sync_service.store.retry_queue import LEASE
from sync_service.sync.email_conflict import resolve_email_conflict
from sync_service.sync.outcome import Outcome
from sync_service.sync.park import name_rejected_column, park
from sync_service.sync.recovery import Batch, Recovery, recover

log = structlog.get_logger()

# A batch waits briefly for the lock of one user, so that the others continue. That user's event then waits alone, and
# longer, but less than Svix does.
BATCH_LOCK_TIMEOUT_MS = 300
LOCK_TIMEOUT_MS = 3000

# Seconds. A longer cascade continues in the background.
DELETE_TIMEOUT = 2.0

DELETE_GRACE = "delete_grace"
LONG_DELETION = "long_deletion"


@dataclass(frozen=True, slots=True)
class Applier:
    """Applies changes to one mapped table.

    `source` is webhook, login, profile, reconcile or replay. `on_work_left` is called when background work remains.
    `delete_timeout` and `deletion_lease` bound a deletion: in seconds for one attempt, and before the next one.
    """

    store: Store
    source: str = "webhook"
    max_attempts: int = 10
    on_work_left: Callable[[], None] = lambda: None
    delete_timeout: float = DELETE_TIMEOUT
    deletion_lease: timedelta = DELETION_LEASE

    def with_source(self, source: str) -> "Applier":
        """Return an applier for changes from another source."""
        return replace(self, source=source)

    async def apply(self, events: Sequence[Event]) -> list[Outcome]:
        """Apply and file `events`; return the outcome of each, in order.

        Errors are isolated: a rejected event, a locked user or a long cascade does not affect the other events.
        """
        found = await self.apply_batch(events)
        locked = [n for n, outcome in enumerate(found) if outcome is None]
        waited = await asyncio.gather(*(self.apply_waiting_for_lock(events[n]) for n in locked))
        outcomes = dict(zip(locked, waited, strict=True))
        return [outcome or outcomes[n] for n, outcome in enumerate(found)]

    async def apply_again(self, events: Sequence[Event]) -> list[Outcome]:
        """Apply events from the inbox in the background or for a replay: each deletion takes as long as it needs."""
        patient = replace(self, delete_timeout=LEASE.total_seconds(), deletion_lease=LEASE)
        outcomes: dict[int, Outcome] = {}
        saves = [n for n, event in enumerate(events) if not isinstance(event.change, Deletion)]
        outcomes |= zip(saves, await patient.apply([events[n] for n in saves]), strict=True)
        for n, event in enumerate(events):
            if n not in outcomes:
                [outcomes[n]] = await patient.apply([event])
        return [outcomes[n] for n in range(len(events))]

    async def apply_batch(self, events: Sequence[Event]) -> list[Outcome | None]:
        """Do the same as `apply`, but return None for each event behind a lock: it is not applied yet."""
        found: dict[int, Outcome | None] = {}
        deletions: list[int] = []
        saves: list[int] = []
        for n, event in enumerate(events):
            if event.error:
                found[n] = await self._park(event, ChangeRejected(event.error))
            elif isinstance(event.change, Deletion):
                deletions.append(n)
            else:
                saves.append(n)
        for group in (deletions, saves):  # deletions first: a snapshot of a deleted user is then stale
            found |= zip(group, await self._apply_group([events[n] for n in group]), strict=True)
        return [found[n] for n in range(len(events))]

    async def apply_waiting_for_lock(self, event: Event) -> Outcome:
        """Apply one event; wait for the lock of its user as long as the sender waits."""
        [outcome] = await self._apply_group([event], lock_timeout_ms=LOCK_TIMEOUT_MS)
        return outcome or Outcome("unavailable", "lock_not_available")

    async def _apply_group(
        self,
        events: Sequence[Event],
        *,
        lock_timeout_ms: int = BATCH_LOCK_TIMEOUT_MS,
        was_rebound: bool = False,
    ) -> list[Outcome | None]:
        """Apply snapshots, or deletions; handle each failure as sync/recovery.py decides."""
        if not events:
            return []
        batch = Batch(len(events), is_deletion=isinstance(events[0].change, Deletion), was_rebound=was_rebound)
        while True:
            try:
                return [*await self._commit(events, batch, lock_timeout_ms)]
            except DatabaseError as error:
                recovery = recover(error, batch)
                if recovery not in _SAME_BATCH:
                    return await self._handle_failure(events, batch, error, recovery)
            if recovery is Recovery.REBIND:
                self.store.binding.invalidate()
            batch = _SAME_BATCH[recovery](batch)

    async def _handle_failure(
        self, events: Sequence[Event], batch: Batch, error: DatabaseError, recovery: Recovery
    ) -> list[Outcome | None]:
        """Continue with smaller batches, or end the attempt."""
        match recovery:
            case Recovery.SPLIT:
                return await self._apply_halves(events, was_rebound=batch.was_rebound)
            case Recovery.ISOLATE:
                alone = await asyncio.gather(*(self._apply_group([event]) for event in events))
                return [outcome for [outcome] in alone]
            case Recovery.WAIT:
                return [None]
            case Recovery.REFUSE:
                obstacles = {"errors": error.errors} if isinstance(error, MappingMismatch) else {}
                log.warning("batch_not_stored", reason=error.reason, events=len(events), **obstacles)
                return [Outcome("unavailable", error.reason)] * len(events)
            case _:
                [event] = events
                return [await self._park_failed(event, error, recovery)]

    async def _apply_halves(self, events: Sequence[Event], *, was_rebound: bool) -> list[Outcome | None]:
        middle = len(events) // 2
        first = await self._apply_group(events[:middle], was_rebound=was_rebound)
        return first + await self._apply_group(events[middle:], was_rebound=was_rebound)

    async def _park_failed(self, event: Event, error: DatabaseError, recovery: Recovery) -> Outcome:
        if recovery is Recovery.DEFER:
            return await self._park(event, ChangeRejected(LONG_DELETION), pause=timedelta())
        if recovery is Recovery.NAME_COLUMN and isinstance(event.change, Snapshot):
            assert isinstance(error, ChangeRejected)  # noqa: S101  the table names columns for rejections only
            await name_rejected_column(self.store, error, event.change)
        return await self._park(event, error)

    async def _commit(self, events: Sequence[Event], batch: Batch, lock_timeout_ms: int) -> list[Outcome]:
        if batch.is_deletion:
            return await self._delete(events, lock_timeout_ms)
        if batch.settles_email:
            return [await self._settle_email(events[0])]
        async with self.store.acquire() as bound:
            if self.store.mapping.link_by_verified_email:
                records = await self._link_and_save(bound, events, lock_timeout_ms)
            else:
                # A statement is a transaction of its own; BEGIN and COMMIT would cost two more round trips.
                records = await apply_changes(bound, events, source=self.source, lock_timeout_ms=lock_timeout_ms)
            await self._follow_up(bound, events, records)
        return [Outcome(record["status"]) for record in records]

    async def _follow_up(
        self, bound: BoundConnection, events: Sequence[Event], records: Sequence[asyncpg.Record]
    ) -> None:
        """Record the rare facts about a batch; most batches cost no further statement."""
        ambiguous = [e.clerk_id for e, r in zip(events, records, strict=True) if r["same_instant"] and e.clerk_id]
        if ambiguous:
            await request_refetch(bound.connection, ambiguous)
            self.on_work_left()
        if replaced := [event.id for event in events if event.replaced and event.id]:
            await note_replaced_values(bound.connection, replaced)

    async def _link_and_save(
        self, bound: BoundConnection, events: Sequence[Event], lock_timeout_ms: int
    ) -> list[asyncpg.Record]:
        # A profile from the application proves no email.
        changes = [] if self.source == "profile" else [event.change for event in events]
        users = [change.user for change in changes if isinstance(change, Snapshot)]
        async with bound.connection.transaction():
            if linked := await link_rows_by_email(bound, users, lock_timeout_ms=lock_timeout_ms):
                log.info("rows_linked", rows=linked)
            return await apply_changes(bound, events, source=self.source, lock_timeout_ms=lock_timeout_ms)

    async def _settle_email(self, event: Event) -> Outcome:
        assert isinstance(event.change, Snapshot)  # noqa: S101  the table settles emails of snapshots only
        status = await resolve_email_conflict(
            self.store, event, event.change, source=self.source, lock_timeout_ms=LOCK_TIMEOUT_MS
        )
        self.on_work_left()
        return Outcome(status)

    async def _delete(self, events: Sequence[Event], lock_timeout_ms: int) -> list[Outcome]:
        async with self.store.acquire() as bound:
            records = await delete_users(
                bound,
                events,
                source=self.source,
                lock_timeout_ms=lock_timeout_ms,
                timeout=self.delete_timeout,
                lease=self.deletion_lease,
            )
        if any(record["state"] == "deferred" for record in records):
            self.on_work_left()
        return [_deletion_outcome(record["state"], is_duplicate=record["is_duplicate"]) for record in records]

    async def _park(self, event: Event, error: DatabaseError, *, pause: timedelta = FIRST_PAUSE) -> Outcome:
        outcome = await park(self.store, event, error, max_attempts=self.max_attempts, pause=pause)
        if outcome.outcome == "parked":
            self.on_work_left()
        return outcome


# The same batch is applied again after these recoveries, with a note of the step that was taken.
_SAME_BATCH: Mapping[Recovery, Callable[[Batch], Batch]] = {
    Recovery.RETRY: lambda batch: replace(batch, tries=batch.tries + 1),
    Recovery.REBIND: lambda batch: replace(batch, was_rebound=True),
    Recovery.RESOLVE_EMAIL: lambda batch: replace(batch, settles_email=True, tries=1),
}


def _deletion_outcome(state: str, *, is_duplicate: bool) -> Outcome:
    if state == "deferred":
        return Outcome("parked", DELETE_GRACE)
    if is_duplicate:
        return Outcome("duplicate")
    return Outcome("stale" if state == "stale" else "applied")
