"""Commits one batch, by one statement or one transaction. Errors are left to sync/isolation.py."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import asyncpg
import structlog

from sync_service.clerk.change import Snapshot
from sync_service.clerk.events import Event
from sync_service.errors import DatabaseError
from sync_service.store.access import BoundConnection, Store
from sync_service.store.changes import apply_changes, note_replaced_values
from sync_service.store.deletions import DELETION_LEASE, continue_in_background, delete_rows, file_deletions
from sync_service.store.identities import request_refetch
from sync_service.store.links import link_rows
from sync_service.store.retry_queue import LEASE
from sync_service.sync.email_conflict import resolve_email_conflict
from sync_service.sync.outcome import Outcome
from sync_service.sync.parents import resolve_parents
from sync_service.sync.recovery import TIMEOUT, Batch, Work

log = structlog.get_logger()

# An event that has left its batch waits so long for a lock, in milliseconds: less than Svix waits.
LOCK_TIMEOUT_MS = 3000

# Seconds. A longer cascade continues in the background.
DELETE_TIMEOUT = 2.0

# A clean-up deletes many users at once, so one long cascade predicts more of them. For some seconds the next ones then
# have little time, so that all deletions are stored while their senders wait.
CONGESTION = 10.0
CONGESTED_TIMEOUT = 0.1

DELETE_GRACE = "delete_grace"
LONG_DELETION = "long_deletion"

# The results of the first step of a deletion that needs the second one: for a new event, and for a repeated one.
DUE = Outcome("due")
DUE_AGAIN = Outcome("due", "duplicate")


@dataclass(slots=True)
class Congestion:
    """The memory of long cascades in this process. `until` is a time of the event loop."""

    until: float = 0.0

    def limit_timeout(self, timeout: float) -> float:
        """Return the seconds that the next cascade may take."""
        is_congested = asyncio.get_running_loop().time() < self.until
        return min(timeout, CONGESTED_TIMEOUT) if is_congested else timeout

    def begin(self) -> None:
        """Record a long cascade."""
        self.until = asyncio.get_running_loop().time() + CONGESTION


@dataclass(frozen=True, slots=True)
class BatchCommitter:
    """Commits batches to one mapped table.

    `source` is webhook, login, profile, reconcile or replay. `on_work_left` is called when background work remains,
    `on_retry` with the outcome of each event that source replay applies again.
    `on_commit` is called after each commit.
    `delete_timeout` bounds the cascade of a webhook in seconds. In the background several cascades are tried together
    for a short time; one that is alone takes as long as it needs.
    """

    store: Store
    source: str = "webhook"
    max_attempts: int = 10
    on_work_left: Callable[[], None] = lambda: None
    on_retry: Callable[[str], None] = lambda _: None
    on_commit: Callable[[], None] = lambda: None
    delete_timeout: float = DELETE_TIMEOUT
    is_background: bool = False
    congestion: Congestion = field(default_factory=Congestion)

    async def commit(self, events: Sequence[Event], batch: Batch, lock_timeout_ms: int) -> list[Outcome]:
        """Do the work of the batch; return the outcomes. Raises `DatabaseError`."""
        outcomes = await self._commit(events, batch, lock_timeout_ms)
        self.on_commit()
        return outcomes

    async def _commit(self, events: Sequence[Event], batch: Batch, lock_timeout_ms: int) -> list[Outcome]:
        match batch.work:
            case Work.FILING:
                return await self._file_deletions(events, lock_timeout_ms)
            case Work.CASCADE | Work.BACKGROUND_CASCADE:
                return await self._delete_rows(events, lock_timeout_ms)
            case Work.SAVE if batch.settles_email:
                return [await self._settle_email(events[0])]
            case Work.SAVE:
                return await self._save_batch(events, lock_timeout_ms)

    async def _save_batch(self, events: Sequence[Event], lock_timeout_ms: int) -> list[Outcome]:
        async with self.store.acquire() as bound:
            if self.store.parents:
                return await self._save_children(bound, events, lock_timeout_ms)
            if self.store.mapping.links_rows:
                records = await self._link_and_save(bound, events, lock_timeout_ms)
            else:
                # A statement is a transaction of its own; BEGIN and COMMIT would cost two more round trips.
                records = await apply_changes(bound, events, source=self.source, lock_timeout_ms=lock_timeout_ms)
            await self._follow_up(bound, events, records)
        return [Outcome(record["status"]) for record in records]

    async def _save_children(
        self, bound: BoundConnection, events: Sequence[Event], lock_timeout_ms: int
    ) -> list[Outcome]:
        """Apply the events whose parents exist; the outcome of the others is `Waiting`."""
        async with bound.connection.transaction():
            found = await resolve_parents(self.store, bound, events, lock_timeout_ms)
            ready = [*found.ready.values()]
            records = []
            if ready:
                records = await apply_changes(
                    bound, ready, source=self.source, lock_timeout_ms=lock_timeout_ms, orphans=found.orphans
                )
        await self._follow_up(bound, ready, records)
        outcomes: dict[int, Outcome] = dict(found.waiting)
        outcomes |= {n: Outcome(record["status"]) for n, record in zip(found.ready, records, strict=True)}
        return [outcomes[n] for n in range(len(events))]

    async def _follow_up(
        self, bound: BoundConnection, events: Sequence[Event], records: Sequence[asyncpg.Record]
    ) -> None:
        """Record the rare facts about a batch; most batches cost no further statement."""
        ambiguous = [event.clerk_id or "" for event, r in zip(events, records, strict=True) if r["same_instant"]]
        if ambiguous:
            await request_refetch(bound.connection, ambiguous)
        if ambiguous or _have_woken(records):
            self.on_work_left()
        if replaced := _list_replaced(events):
            await note_replaced_values(bound.connection, replaced)

    async def _link_and_save(
        self, bound: BoundConnection, events: Sequence[Event], lock_timeout_ms: int
    ) -> list[asyncpg.Record]:
        # A profile from the application proves no email and no external ID.
        changes = [] if self.source == "profile" else [event.change for event in events]
        users = [change.user for change in changes if isinstance(change, Snapshot)]
        async with bound.connection.transaction():
            linked = await link_rows(bound, users, source=self.source, lock_timeout_ms=lock_timeout_ms)
            if linked:
                log.info("rows_linked", rows=linked)
            return await apply_changes(bound, events, source=self.source, lock_timeout_ms=lock_timeout_ms)

    async def _settle_email(self, event: Event) -> Outcome:
        assert isinstance(event.change, Snapshot)  # noqa: S101  the table settles emails of snapshots only
        record = await resolve_email_conflict(
            self.store, event, event.change, source=self.source, lock_timeout_ms=LOCK_TIMEOUT_MS
        )
        async with self.store.acquire() as bound:
            await self._follow_up(bound, [event], [record])
        self.on_work_left()
        return Outcome(record["status"])

    async def _file_deletions(self, events: Sequence[Event], lock_timeout_ms: int) -> list[Outcome]:
        """Take the first step. The outcome is `DUE` or `DUE_AGAIN` where the second one follows."""
        lease = LEASE if self.is_background else DELETION_LEASE
        async with self.store.acquire() as bound:
            records = await file_deletions(
                bound, events, source=self.source, lock_timeout_ms=lock_timeout_ms, lease=lease
            )
        if any(record["state"] == "deferred" for record in records):
            self.on_work_left()
        return [_filing_outcome(record["state"], is_duplicate=record["is_duplicate"]) for record in records]

    async def _delete_rows(self, events: Sequence[Event], lock_timeout_ms: int) -> list[Outcome]:
        """Take the second step."""
        timeout = DELETE_TIMEOUT if self.is_background else self.congestion.limit_timeout(self.delete_timeout)
        is_patient = self.is_background and len(events) == 1
        if is_patient:
            timeout, lock_timeout_ms = LEASE.total_seconds(), LOCK_TIMEOUT_MS
        async with self.store.acquire() as bound:
            deleted = await delete_rows(
                bound, events, lock_timeout_ms=lock_timeout_ms, timeout=timeout, lift_limits=is_patient
            )
        return [Outcome("applied" if event.clerk_id in deleted else "stale") for event in events]

    async def defer_deletions(self, events: Sequence[Event], error: DatabaseError) -> list[Outcome]:
        """Leave deletions whose first step is committed to the background; return their outcomes."""
        log.warning("parked", reason=LONG_DELETION, events=len(events), cause=error.reason)
        if error.reason == TIMEOUT:
            self.congestion.begin()
        # Without this statement the background takes them after their lease.
        with contextlib.suppress(DatabaseError):
            async with self.store.database.acquire() as connection:
                await continue_in_background(connection, [event.id for event in events if event.id])
        self.on_work_left()
        parked, not_filed = Outcome("parked", LONG_DELETION), Outcome("unavailable", error.reason)
        return [parked if event.id else not_filed for event in events]


def _list_replaced(events: Sequence[Event]) -> list[str]:
    return [event.id for event in events if event.replaced and event.id]


def _have_woken(records: Sequence[asyncpg.Record]) -> bool:
    return any(record["has_woken"] for record in records)


def _filing_outcome(state: str, *, is_duplicate: bool) -> Outcome:
    if state == "deferred":
        return Outcome("parked", DELETE_GRACE)
    if state == "due":
        return DUE_AGAIN if is_duplicate else DUE
    return Outcome("duplicate" if is_duplicate else state)
