"""Compares sessions and memberships with their rows, which have the keys of their parents."""

from collections.abc import Sequence

from sync_service.clerk.change import Snapshot
from sync_service.clerk.events import Event
from sync_service.store.access import Store
from sync_service.store.comparison import Difference, Drift, compare_users
from sync_service.sync.parents import resolve_parents


async def compare_children(store: Store, events: Sequence[Event]) -> list[Difference]:
    """Return the objects that are not the same as their rows. Raises `DatabaseError`.

    An object is missing if its parent has no row, and needs no row if its parent is deleted.
    """
    async with store.acquire() as bound:
        found = await resolve_parents(store, bound, events, None)
    ready = [event.change for event in found.ready.values() if event.clerk_id not in found.orphans]
    waiting = [events[n].change for n in found.waiting]
    missing = [Difference(change, Drift.MISSING) for change in waiting if isinstance(change, Snapshot)]
    return missing + await compare_users(store, [change for change in ready if isinstance(change, Snapshot)])
