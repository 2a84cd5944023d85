"""The only way to write a user: many changes in, each one's outcome out, committed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import asyncpg
import structlog

from sync_service.clerk.events import Event
from sync_service.clerk.values import Deletion, Snapshot
from sync_service.errors import DatabaseFault, Unappliable, Unavailable, Unfit
from sync_service.postgres.addresses import adopt_rows
from sync_service.postgres.faults import translated
from sync_service.postgres.inbox import (
    DELETE_GRACE,
    FIRST_PAUSE,
    apply_changes,
    delete_rows,
    hold_back,
    want_refetch,
)
from sync_service.postgres.pool import Connection
from sync_service.postgres.statements import Statements
from sync_service.sync.conflict import settle_address
from sync_service.sync.parking import Outcome, find_column, parked

log = structlog.get_logger()

T = TypeVar("T")

# A batch waits little for a lock that one of its users is behind, so that the others are not kept; that one, alone
# then, waits longer, but not as long as Svix.
BATCH_PATIENCE_MS = 300
PATIENCE_MS = 3000

# What cascades for longer than this is finished in the background.
DELETE_SECONDS = 2.0

LOCK_NOT_AVAILABLE = "55P03"
UNIQUE_VIOLATION = "23505"
# Deadlocks and serialization; connections that had died; prepared statements that a pooler lost or doubled.
AT_ONCE = ("40", "08", "57P", "26000", "42P05")
# A column, an index, a type or a privilege has gone, or has become another, since the table was looked at.
TABLE_CHANGED = frozenset({"42703", "42704", "42P10", "428C9", "42804", "42501", "22001", "23502"})
# A value that its type does not take: too long, no label of the enum, against a domain's check.
REFUSED_VALUE = ("22", "23514")
TIMEOUT = "timeout"
LONG_DELETION = "long_deletion"


@dataclass(frozen=True, slots=True)
class Applier:
    """Applies changes to one mapped table.

    `source` is who tells of them: webhook, login, reconcile, replay. `left_over` is called when something is left to
    do in the background.
    """

    pool: asyncpg.Pool
    statements: Statements
    source: str = "webhook"
    max_attempts: int = 10
    left_over: Callable[[], None] = lambda: None

    async def apply(self, events: Sequence[Event]) -> list[Outcome]:
        """Apply and file `events`; return each one's outcome, in their order.

        One that the database refuses does not stop the rest, nor does one whose user is locked by somebody else, nor a
        deletion that cascades through thousands of rows.
        """
        found = await self.apply_quickly(events)
        late = [n for n, outcome in enumerate(found) if outcome is None]
        outcomes = dict(zip(late, await asyncio.gather(*(self.apply_patiently(events[n]) for n in late)), strict=True))
        return [outcome or outcomes[n] for n, outcome in enumerate(found)]

    async def apply_quickly(self, events: Sequence[Event]) -> list[Outcome | None]:
        """As `apply`, but None for each event that is behind somebody's lock: nothing of it is stored yet."""
        saves = [n for n, event in enumerate(events) if not event.fault and not isinstance(event.change, Deletion)]
        deletions = [n for n, event in enumerate(events) if not event.fault and isinstance(event.change, Deletion)]
        found: dict[int, Outcome | None] = {}
        for group in (deletions, saves):  # a snapshot of somebody deleted is stale at once
            found |= zip(group, await self._group([events[n] for n in group]), strict=True)
        for n, event in enumerate(events):
            if event.fault:
                found[n] = await self._park(event, Unappliable(event.fault))
        return [found[n] for n in range(len(events))]

    async def apply_patiently(self, event: Event) -> Outcome:
        """Apply one event, waiting for its user's lock as long as there is time."""
        [outcome] = await self._group([event], patience_ms=PATIENCE_MS)
        return outcome or Outcome("unavailable", "lock_not_available")

    async def _group(
        self, events: Sequence[Event], patience_ms: int = BATCH_PATIENCE_MS, *, looked_again: bool = False
    ) -> list[Outcome | None]:
        if not events:
            return []
        try:
            return [*await _at_once(lambda: self._commit(events, patience_ms))]
        except Unappliable as fault:
            if fault.sqlstate in TABLE_CHANGED and not looked_again:
                self.statements.look_again()
                return await self._group(events, patience_ms, looked_again=True)
            if len(events) == 1:
                return [await self._refused(events[0], fault)]
            half = len(events) // 2
            halves = events[:half], events[half:]
            return [outcome for part in halves for outcome in await self._group(part, looked_again=looked_again)]
        except Unavailable as fault:
            return await self._unavailable(events, fault)

    async def _unavailable(self, events: Sequence[Event], fault: Unavailable) -> list[Outcome | None]:
        locked, late = fault.sqlstate == LOCK_NOT_AVAILABLE, fault.reason == TIMEOUT
        if len(events) > 1 and (locked or late):
            # Each by itself, side by side, so that only those behind the lock wait.
            return [outcome for [outcome] in await asyncio.gather(*(self._group([event]) for event in events))]
        if locked:
            return [None]
        if late and isinstance(events[0].change, Deletion):
            return [await self._park(events[0], Unappliable(LONG_DELETION), pause=timedelta())]
        why = {"faults": fault.faults} if isinstance(fault, Unfit) else {}
        log.warning("not stored", reason=fault.reason, events=len(events), **why)
        return [Outcome("unavailable", fault.reason)] * len(events)

    async def _commit(self, events: Sequence[Event], patience_ms: int) -> list[Outcome]:
        async with self.pool.acquire() as connection:
            if isinstance(events[0].change, Deletion):
                return await self._delete(connection, events, patience_ms)
            if self.statements.mapping.link_by_verified_email:
                records = await self._link_and_save(connection, events, patience_ms)
            else:
                # A statement is a transaction of its own; BEGIN and COMMIT would be two more round trips.
                records = await apply_changes(
                    connection, self.statements, events, source=self.source, patience_ms=patience_ms
                )
            twice_told = [e.clerk_id for e, r in zip(events, records, strict=True) if r["same_instant"] and e.clerk_id]
            if twice_told:
                await want_refetch(connection, twice_told)
                self.left_over()
        return [Outcome(record["status"]) for record in records]

    async def _link_and_save(
        self, connection: Connection, events: Sequence[Event], patience_ms: int
    ) -> list[asyncpg.Record]:
        # What the app itself says of a user proves nothing.
        told = [] if self.source == "profile" else [event.change for event in events]
        users = [change.user for change in told if isinstance(change, Snapshot)]
        async with connection.transaction():
            await self.statements.held_against(connection)
            if linked := await adopt_rows(connection, self.statements, users, patience_ms=patience_ms):
                log.info("rows adopted by their verified address", rows=linked)
            return await apply_changes(connection, self.statements, events, source=self.source, patience_ms=patience_ms)

    async def _delete(self, connection: Connection, events: Sequence[Event], patience_ms: int) -> list[Outcome]:
        async with connection.transaction():
            held = [await hold_back(connection, self.statements, event, source=self.source) for event in events]
            due = [event for event, waits in zip(events, held, strict=True) if not waits]
            records = iter(
                await apply_changes(connection, self.statements, due, source=self.source, patience_ms=patience_ms)
            )
            ids = [event.clerk_id for event in due if event.clerk_id]
            await delete_rows(connection, self.statements, ids, seconds=DELETE_SECONDS)
        if any(held):
            self.left_over()
        return [Outcome("parked", DELETE_GRACE) if waits else Outcome(next(records)["status"]) for waits in held]

    async def _refused(self, event: Event, fault: Unappliable) -> Outcome:
        change = event.change
        if fault.sqlstate == UNIQUE_VIOLATION and isinstance(change, Snapshot):
            try:
                status = await _at_once(
                    lambda: settle_address(
                        self.pool, self.statements, event, change, source=self.source, patience_ms=PATIENCE_MS
                    )
                )
            except Unappliable as other:
                return await self._park(event, other)
            except Unavailable as other:
                return Outcome("unavailable", other.reason)
            if status:
                self.left_over()
                return Outcome(status)
        if fault.column is None and fault.sqlstate.startswith(REFUSED_VALUE) and isinstance(change, Snapshot):
            await find_column(self.pool, self.statements, fault, change)
        return await self._park(event, fault)

    async def _park(self, event: Event, fault: DatabaseFault, *, pause: timedelta = FIRST_PAUSE) -> Outcome:
        outcome = await parked(self.pool, event, fault, source=self.source, max_attempts=self.max_attempts, pause=pause)
        if outcome.outcome == "parked":
            self.left_over()
        return outcome

    def telling(self, source: str) -> "Applier":
        """Return the same for changes that another source tells of."""
        return replace(self, source=source)


async def _at_once(work: Callable[[], Awaitable[T]]) -> T:
    """Do the work, which bears repetition; what passes at once is tried again. Raises `DatabaseFault`."""
    for tries_left in (2, 1, 0):
        try:
            with translated():
                return await work()
        except Unavailable as fault:
            if not tries_left or not (fault.sqlstate.startswith(AT_ONCE) or fault.reason == "interface"):
                raise
    raise AssertionError  # the last try has returned or raised
