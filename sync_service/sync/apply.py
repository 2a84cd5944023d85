"""The only way to write a row: many changes in, the outcome of each one out, committed."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import msgspec

from sync_service.clerk.change import Deletion
from sync_service.clerk.entities import ENTITIES, USER
from sync_service.clerk.events import Event
from sync_service.errors import ChangeRejected, DatabaseError, ParentMissing
from sync_service.sync.children import delete_children
from sync_service.sync.commit import DUE, DUE_AGAIN, LOCK_TIMEOUT_MS
from sync_service.sync.isolation import (
    BATCH_LOCK_TIMEOUT_MS,
    MAX_CONCURRENT_PARTS_IN_BACKGROUND,
    IsolatingCommitter,
    group_by_user,
    join_parts,
)
from sync_service.sync.outcome import Outcome, Waiting
from sync_service.sync.recovery import Batch, Work

LOCKED = Outcome("unavailable", "lock_not_available")


@dataclass(frozen=True, slots=True)
class Applier(IsolatingCommitter):
    """Applies changes to the mapped tables, parents first and deletions first."""

    def with_source(self, source: str) -> "Applier":
        """Return an applier for changes from another source."""
        return replace(self, source=source)

    async def apply(self, events: Sequence[Event]) -> list[Outcome]:
        """Apply and file `events`; return the outcome of each, in order.

        Errors are isolated: a rejected event, a locked user or a long cascade does not affect the other events.
        """
        found = await self.apply_batch(events)
        waiting = [n for n, outcome in enumerate(found) if outcome is None]
        users = group_by_user(events, waiting)
        waited = await asyncio.gather(*(self._apply_user([events[n] for n in user]) for user in users))
        outcomes = join_parts(users, waited)
        results = [outcome or outcomes[n] for n, outcome in enumerate(found)]
        if self.source == "replay":
            for result in results:
                self.on_retry(result.outcome)
        return results

    async def apply_again(self, events: Sequence[Event]) -> list[Outcome]:
        """Apply events from the inbox in the background or for a replay: each deletion takes as long as it needs."""
        patient = replace(self, is_background=True, parts=asyncio.Semaphore(MAX_CONCURRENT_PARTS_IN_BACKGROUND))
        outcomes: dict[int, Outcome] = {}
        # Deletions last, because one may take minutes.
        for are_deletions in (False, True):
            numbers = [n for n, event in enumerate(events) if isinstance(event.change, Deletion) is are_deletions]
            outcomes |= zip(numbers, await patient.apply([events[n] for n in numbers]), strict=True)
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
                found[n] = await self.park(event, ChangeRejected(event.error))
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
        found = await self.commit_in_parts(events, lock_timeout_ms=lock_timeout_ms)
        for n, outcome in enumerate(found):
            if isinstance(outcome, Waiting):
                found[n] = await self.park(events[n], ParentMissing(outcome.reason or "", outcome.parent_id))
        return found

    async def delete(
        self, events: Sequence[Event], *, lock_timeout_ms: int = BATCH_LOCK_TIMEOUT_MS
    ) -> list[Outcome | None]:
        """Take both steps of deletions; return None for each one whose first step must wait."""
        found = await self.commit_in_parts(events, Batch(0, work=Work.FILING), lock_timeout_ms=lock_timeout_ms)
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
                if self.is_background and len(events) > 1:
                    alone = [await self._delete_with_children([event], lock_timeout_ms) for event in events]
                    return [outcome for [outcome] in alone]
                return [*await self.defer_deletions(events, error)]
        work = Work.BACKGROUND_CASCADE if self.is_background else Work.CASCADE
        return await self.commit_in_parts(events, Batch(0, work=work), lock_timeout_ms=lock_timeout_ms)


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
