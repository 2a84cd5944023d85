"""The only way to write a row: many changes in, the outcome of each one out, committed."""

import asyncio
import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import msgspec
import structlog

from sync_service.clerk.change import Deletion, Snapshot
from sync_service.clerk.entities import ENTITIES, USER
from sync_service.clerk.events import Event
from sync_service.errors import ChangeRejected, DatabaseError, MappingMismatch, ParentMissing
from sync_service.sync.children import delete_children
from sync_service.sync.commit import DUE, DUE_AGAIN, LOCK_TIMEOUT_MS, BatchCommitter
from sync_service.sync.outcome import Outcome, Waiting
from sync_service.sync.park import name_rejected_column, park
from sync_service.sync.recovery import Batch, Recovery, Work, recover

log = structlog.get_logger()

# A batch waits briefly for the lock of one user, so that the others continue. That user's event then waits alone, and
# longer.
BATCH_LOCK_TIMEOUT_MS = 300

# The parts of a failed batch are applied over so many connections at the same time: few round trips for the callers,
# and free connections for other batches and logins. The background uses fewer.
MAX_CONCURRENT_PARTS = 6
MAX_CONCURRENT_PARTS_IN_BACKGROUND = 2

LOCKED = Outcome("unavailable", "lock_not_available")

Slot = contextlib.AbstractAsyncContextManager[None]
T = TypeVar("T")

_ANY_SLOT: Slot = contextlib.nullcontext()
_SAVE = Batch(0)


@dataclass(frozen=True, slots=True)
class Applier(BatchCommitter):
    """Applies changes to the mapped tables: commits batches of each table, and isolates the events that fail."""

    parts: asyncio.Semaphore = field(default_factory=partial(asyncio.Semaphore, MAX_CONCURRENT_PARTS))

    def with_source(self, source: str) -> "Applier":
        """Return an applier for changes from another source."""
        return replace(self, source=source)

    async def apply(self, events: Sequence[Event]) -> list[Outcome]:
        """Apply and file `events`; return the outcome of each, in order.

        Errors are isolated: a rejected event, a locked user or a long cascade does not affect the other events.
        """
        found = await self.apply_batch(events)
        waiting = [n for n, outcome in enumerate(found) if outcome is None]
        users = _group_by_user(events, waiting)
        waited = await asyncio.gather(*(self._apply_user([events[n] for n in user]) for user in users))
        outcomes = _join_parts(users, waited)
        results = [outcome or outcomes[n] for n, outcome in enumerate(found)]
        if self.source == "replay":
            for result in results:
                self.on_retry(result.outcome)
        return results

    async def apply_again(self, events: Sequence[Event]) -> list[Outcome]:
        """Apply events from the inbox in the background or for a replay: each deletion takes as long as it needs."""
        patient = replace(self, is_background=True, parts=asyncio.Semaphore(MAX_CONCURRENT_PARTS_IN_BACKGROUND))
        outcomes: dict[int, Outcome] = {}
        saves = [n for n, event in enumerate(events) if not isinstance(event.change, Deletion)]
        outcomes |= zip(saves, await patient.apply([events[n] for n in saves]), strict=True)
        for n, event in enumerate(events):
            if n not in outcomes:
                [outcomes[n]] = await patient.apply([event])
        return [outcomes[n] for n in range(len(events))]

    async def apply_batch(self, events: Sequence[Event]) -> list[Outcome | None]:
        """Do the same as `apply`, but return None for each event that must wait: it is not applied yet."""
        events = [_ignore_unmapped(event, self.store.bindings) for event in events]
        if len(self.store.bindings) == 1:
            return await self.apply_to_table(events)
        found: dict[int, Outcome | None] = dict.fromkeys(await self._save_carried_users(events))
        for entity, numbers in _group_by_entity(events, self.store.bindings):
            part = [n for n in numbers if n not in found]
            found |= zip(part, await self._for_entity(entity).apply_to_table([events[n] for n in part]), strict=True)
        return [found[n] for n in range(len(events))]

    def _for_entity(self, entity: str) -> "Applier":
        return replace(self, store=self.store.for_entity(entity))

    async def _save_carried_users(self, events: Sequence[Event]) -> list[int]:
        """Save the users whom sessions contain; return the positions of the sessions that must wait for a lock."""
        carried = [(n, user) for n, event in enumerate(events) if (user := get_carried_user(event))]
        saved = await self.apply_to_table([user for _, user in carried])
        return [n for (n, _), outcome in zip(carried, saved, strict=True) if outcome is None]

    async def apply_to_table(self, events: Sequence[Event]) -> list[Outcome | None]:
        """Apply events of this store's entity; those of an entity without a table are filed as ignored."""
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
        # Deletions first: a snapshot of a deleted user is then stale.
        found |= zip(deletions, await self.delete([events[n] for n in deletions]), strict=True)
        found |= zip(saves, await self.save([events[n] for n in saves]), strict=True)
        return [found[n] for n in range(len(events))]

    async def apply_waiting_for_lock(self, event: Event) -> Outcome:
        """Apply one event; wait for the lock of its user as long as the sender waits."""
        event = _ignore_unmapped(event, self.store.bindings)
        if user := get_carried_user(event):
            await self.apply_waiting_for_lock(user)
        applier = self._for_entity(event.entity)
        apply = applier.delete if isinstance(event.change, Deletion) else applier.save
        [outcome] = await apply([event], lock_timeout_ms=LOCK_TIMEOUT_MS)
        return outcome or LOCKED

    async def _apply_user(self, events: Sequence[Event]) -> list[Outcome]:
        """Apply the events of one user, one after the other. After one has waited for the lock, the rest does not."""
        outcomes: list[Outcome] = []
        async with self.parts:
            for event in events:
                is_locked = LOCKED in outcomes
                outcomes.append(LOCKED if is_locked else await self.apply_waiting_for_lock(event))
        return outcomes

    async def save(
        self, events: Sequence[Event], *, lock_timeout_ms: int = BATCH_LOCK_TIMEOUT_MS
    ) -> list[Outcome | None]:
        """Apply snapshots; park those whose parent does not exist yet."""
        found = await self._apply_group(events, lock_timeout_ms=lock_timeout_ms)
        for n, outcome in enumerate(found):
            if isinstance(outcome, Waiting):
                found[n] = await self._park(events[n], ParentMissing(outcome.reason or "", outcome.parent_id))
        return found

    async def delete(
        self, events: Sequence[Event], *, lock_timeout_ms: int = BATCH_LOCK_TIMEOUT_MS
    ) -> list[Outcome | None]:
        """Take both steps of deletions; return None for each one whose first step must wait."""
        found = await self._apply_group(events, Batch(0, work=Work.FILING), lock_timeout_ms=lock_timeout_ms)
        due = [n for n, outcome in enumerate(found) if outcome in {DUE, DUE_AGAIN}]
        deleted = await self._delete_with_children([events[n] for n in due], lock_timeout_ms)
        for n, outcome in zip(due, deleted, strict=True):
            is_repeated = found[n] == DUE_AGAIN and outcome == Outcome("applied")
            found[n] = Outcome("duplicate") if is_repeated else outcome
        return found

    async def _delete_with_children(self, events: Sequence[Event], lock_timeout_ms: int) -> list[Outcome | None]:
        """Take the second step of deletions; their sessions and memberships come first."""
        if events and self.store.children:
            try:
                await delete_children(self.store, events, self.apply, has_time=self.is_background)
            except DatabaseError as error:
                return [*await self.defer_deletions(events, error)]
        work = Work.BACKGROUND_CASCADE if self.is_background else Work.CASCADE
        timeout_ms = LOCK_TIMEOUT_MS if self.is_background else lock_timeout_ms
        return await self._apply_group(events, Batch(0, work=work), lock_timeout_ms=timeout_ms)

    async def _apply_group(
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
                parts = _split(events) if recovery is Recovery.SPLIT else _group_by_user(events, range(len(events)))
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
        work = (self._apply_group([events[n] for n in part], batch, slot=self.parts) for part in parts)
        outcomes = _join_parts(parts, await asyncio.gather(*work))
        return [outcomes[n] for n in range(len(events))]

    async def _park_failed(self, event: Event, error: DatabaseError, recovery: Recovery) -> Outcome:
        if recovery is Recovery.NAME_COLUMN and isinstance(event.change, Snapshot):
            assert isinstance(error, ChangeRejected)  # noqa: S101  the table names columns for rejections only
            await name_rejected_column(self.store, error, event.change)
        error.table = error.table or self.store.mapping.table
        return await self._park(event, error)

    async def _park(self, event: Event, error: DatabaseError) -> Outcome:
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


def get_carried_user(event: Event) -> Event | None:
    """Return the change of the user whom a session contains. It has no row in the inbox."""
    user = event.carried_user
    return Event(None, event.type, event.instance_id, user.clerk_id, user) if user else None


def _ignore_unmapped(event: Event, mapped: Collection[str]) -> Event:
    """Return an event that is filed only, if its entity has no table any more."""
    is_mapped = event.entity in mapped
    return event if is_mapped else msgspec.structs.replace(event, change=None, error=None, entity=USER.name)


def _group_by_entity(events: Sequence[Event], mapped: Collection[str]) -> list[tuple[str, list[int]]]:
    """Return the positions of the events by entity, parents first."""
    groups: dict[str, list[int]] = {name: [] for name in ENTITIES if name in mapped}
    for n, event in enumerate(events):
        groups[event.entity].append(n)
    return [(entity, numbers) for entity, numbers in groups.items() if numbers]


def _split(events: Sequence[Event]) -> list[range]:
    """Return parts of the square root's size: the parts of these are single events, however many are refused."""
    count, size = len(events), math.isqrt(len(events))
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def _group_by_user(events: Sequence[Event], numbers: Iterable[int]) -> list[list[int]]:
    users: dict[str | None, list[int]] = defaultdict(list)
    for n in numbers:
        users[events[n].clerk_id].append(n)
    return [*users.values()]


def _join_parts(parts: Iterable[Sequence[int]], outcomes: Iterable[Sequence[T]]) -> dict[int, T]:
    """Return the outcomes of parts by the positions of their events."""
    found: dict[int, T] = {}
    for part, of_part in zip(parts, outcomes, strict=True):
        found |= zip(part, of_part, strict=True)
    return found
