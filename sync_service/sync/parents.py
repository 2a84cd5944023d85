"""The parents of sessions and memberships: each event is ready, waits for its parent, or comes after its deletion."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from sync_service.clerk.change import Snapshot
from sync_service.clerk.entities import Parent
from sync_service.clerk.events import Event
from sync_service.clerk.objects import find_parent_id
from sync_service.mapping.computed_values import PARENT_KEYS
from sync_service.store.access import BoundConnection, Store
from sync_service.store.family import ParentState, find_parents, lock_parents
from sync_service.sync.outcome import Waiting


@dataclass(slots=True)
class Resolution:
    """The events of a batch by what they can do. `ready` also has the events of `orphans`, which are filed only.

    `waiting` has the outcome of the others. The keys are positions.
    """

    ready: dict[int, Event] = field(default_factory=dict)
    orphans: set[str | None] = field(default_factory=set)
    waiting: dict[int, Waiting] = field(default_factory=dict)


async def resolve_parents(
    store: Store, bound: BoundConnection, events: Sequence[Event], lock_timeout_ms: int | None
) -> Resolution:
    """Put the keys of the parents into the events. Raises the errors of asyncpg.

    The parents are locked until the transaction ends, unless `lock_timeout_ms` is None.
    """
    states: dict[str, ParentState] = {}
    for parent in store.parents:
        wanted = {clerk_id for event in events if (clerk_id := _find_parent(event, parent))}
        if wanted:
            parents = await store.for_entity(parent.entity).bind(bound.connection)
            if lock_timeout_ms is None:
                states |= await find_parents(parents, [*wanted])
            else:
                states |= await lock_parents(parents, [*wanted], lock_timeout_ms=lock_timeout_ms)
    return sort_events(events, store.parents, states)


def sort_events(events: Sequence[Event], parents: Iterable[Parent], states: dict[str, ParentState]) -> Resolution:
    """Return the events by the states of their parents (pure)."""
    found = Resolution()
    for n, event in enumerate(events):
        own = [(parent, clerk_id) for parent in parents if (clerk_id := _find_parent(event, parent))]
        missing = [(parent, clerk_id) for parent, clerk_id in own if states[clerk_id].key is None]
        if any(states[clerk_id].is_deleted for _, clerk_id in own):
            found.orphans.add(event.clerk_id)
            found.ready[n] = event
        elif missing:
            [(parent, clerk_id), *_] = missing
            found.waiting[n] = Waiting.for_parent(parent.entity, clerk_id)
        else:
            keys = {PARENT_KEYS[parent.entity]: states[clerk_id].key for parent, clerk_id in own}
            found.ready[n] = _add_keys(event, keys)
    return found


def _find_parent(event: Event, parent: Parent) -> str | None:
    return find_parent_id(event.change.data, parent.path) if isinstance(event.change, Snapshot) else None


def _add_keys(event: Event, keys: dict[str, Any]) -> Event:
    if not isinstance(event.change, Snapshot):
        return event
    change = replace(event.change, data={**event.change.data, **keys})
    return msgspec.structs.replace(event, change=change)
