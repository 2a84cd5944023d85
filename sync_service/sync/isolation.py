"""Commits a batch in spite of failures: it is tried again, or divided, until each failure is that of one event."""

import asyncio
import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import structlog

from sync_service.clerk.change import Snapshot
from sync_service.clerk.entities import USER
from sync_service.clerk.events import Event
from sync_service.errors import ChangeRejected, DatabaseError, MappingMismatch
from sync_service.sync.commit import BatchCommitter
from sync_service.sync.outcome import Outcome
from sync_service.sync.park import name_rejected_column, park
from sync_service.sync.recovery import Batch, Recovery, recover

log = structlog.get_logger()

# A batch waits briefly for the lock of one user, so that the others continue. That user's event then waits alone, and
# longer.
BATCH_LOCK_TIMEOUT_MS = 300

# The parts of a failed batch are applied over so many connections at the same time: few round trips for the callers,
# and free connections for other batches and logins. The background uses fewer.
MAX_CONCURRENT_PARTS = 6
MAX_CONCURRENT_PARTS_IN_BACKGROUND = 2

Slot = contextlib.AbstractAsyncContextManager[None]
T = TypeVar("T")

_ANY_SLOT: Slot = contextlib.nullcontext()
_SAVE = Batch(0)


@dataclass(frozen=True, slots=True)
class IsolatingCommitter(BatchCommitter):
    """Commits batches, and isolates the events that fail."""

    parts: asyncio.Semaphore = field(default_factory=partial(asyncio.Semaphore, MAX_CONCURRENT_PARTS))

    async def commit_in_parts(
        self,
        events: Sequence[Event],
        like: Batch = _SAVE,
        *,
        lock_timeout_ms: int = BATCH_LOCK_TIMEOUT_MS,
        slot: Slot = _ANY_SLOT,
    ) -> list[Outcome | None]:
        """Apply snapshots, or take one step of deletions; handle each failure as sync/recovery.py decides.

        `like` has the facts that a part inherits from its batch. Each statement of a part waits for a `slot`.
        """
        if not events:
            return []
        batch = replace(
            like,
            size=len(events),
            users=len({event.clerk_id for event in events}),
            tries=1,
            has_claims=self.store.mapping.entity == USER.name,
        )
        while True:
            try:
                async with slot:
                    return [*await self.commit(events, batch, lock_timeout_ms)]
            except DatabaseError as error:
                recovery = recover(error, batch)
                if recovery is Recovery.PROBE:
                    batch = replace(batch, can_write=await self.store.database.can_write())
                    recovery = recover(error, batch)
                if recovery not in _SAME_BATCH:
                    return await self._handle_failure(events, batch, error, recovery, slot)
            if recovery is Recovery.REBIND:
                self.store.binding.invalidate()
            batch = _SAME_BATCH[recovery](batch)

    async def _handle_failure(
        self, events: Sequence[Event], batch: Batch, error: DatabaseError, recovery: Recovery, slot: Slot
    ) -> list[Outcome | None]:
        """Continue with smaller batches, or end the attempt."""
        match recovery:
            case Recovery.SPLIT | Recovery.ISOLATE:
                parts = _split(events) if recovery is Recovery.SPLIT else group_by_user(events, range(len(events)))
                return await self._apply_parts(events, parts, batch)
            case Recovery.WAIT:
                return [None] * len(events)
            case Recovery.DEFER:
                return [*await self.defer_deletions(events, error)]
            case Recovery.REFUSE:
                obstacles = {"errors": error.errors} if isinstance(error, MappingMismatch) else {}
                log.warning("batch_not_stored", reason=error.reason, events=len(events), **obstacles)
                return [Outcome("unavailable", error.reason)] * len(events)
            case _:
                async with slot:
                    return [await self._park_failed(events[0], error, recovery)]

    async def _apply_parts(
        self, events: Sequence[Event], parts: Collection[Sequence[int]], batch: Batch
    ) -> list[Outcome | None]:
        work = (self.commit_in_parts([events[n] for n in part], batch, slot=self.parts) for part in parts)
        outcomes = join_parts(parts, await asyncio.gather(*work))
        return [outcomes[n] for n in range(len(events))]

    async def _park_failed(self, event: Event, error: DatabaseError, recovery: Recovery) -> Outcome:
        if recovery is Recovery.NAME_COLUMN and isinstance(event.change, Snapshot):
            assert isinstance(error, ChangeRejected)  # noqa: S101  the table names columns for rejections only
            await name_rejected_column(self.store, error, event.change)
        error.table = error.table or self.store.mapping.table
        return await self.park(event, error)

    async def park(self, event: Event, error: DatabaseError) -> Outcome:
        """File an event that cannot be applied now; return its outcome."""
        outcome = await park(self.store, event, error, max_attempts=self.max_attempts)
        if outcome.outcome == "parked":
            self.on_work_left()
        return outcome


# The same batch is applied again after these recoveries, with a note of the step that was taken.
_SAME_BATCH: Mapping[Recovery, Callable[[Batch], Batch]] = {
    Recovery.RETRY: lambda batch: replace(batch, tries=batch.tries + 1),
    Recovery.REBIND: lambda batch: replace(batch, was_rebound=True),
    Recovery.RESOLVE_EMAIL: lambda batch: replace(batch, settles_email=True, tries=1),
}


def _split(events: Sequence[Event]) -> list[range]:
    """Return parts of the square root's size: the parts of these are single events, however many are refused."""
    count, size = len(events), math.isqrt(len(events))
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def group_by_user(events: Sequence[Event], numbers: Iterable[int]) -> list[list[int]]:
    """Return the positions of the events by user."""
    users: dict[str | None, list[int]] = defaultdict(list)
    for n in numbers:
        users[events[n].clerk_id].append(n)
    return [*users.values()]


def join_parts(parts: Iterable[Sequence[int]], outcomes: Iterable[Sequence[T]]) -> dict[int, T]:
    """Return the outcomes of parts by the positions of their events."""
    found: dict[int, T] = {}
    for part, of_part in zip(parts, outcomes, strict=True):
        found |= zip(part, of_part, strict=True)
    return found
