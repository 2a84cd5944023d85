"""Deletes the sessions and memberships of a deleted user or organization, as their own events would."""

from collections.abc import Awaitable, Callable, Sequence

from sync_service.clerk.events import Event, make_deletion
from sync_service.errors import DatabaseUnavailable
from sync_service.store.access import Store
from sync_service.store.family import list_children, lock_parents
from sync_service.sync.commit import LOCK_TIMEOUT_MS
from sync_service.sync.outcome import Outcome

# Rows that a deletion takes with it while its sender waits. The background deletes more of them.
MAX_CHILDREN = 1000


async def delete_children(
    store: Store,
    events: Sequence[Event],
    apply: Callable[[Sequence[Event]], Awaitable[Sequence[Outcome]]],
    *,
    has_time: bool,
) -> None:
    """Delete the rows that belong to the deleted objects of `events`, whose tombstones are committed.

    Raises `DatabaseError`, also if there are too many rows for a sender that waits.
    """
    clerk_ids = [event.clerk_id for event in events if event.clerk_id]
    async with store.acquire() as bound:
        parents = await lock_parents(bound, clerk_ids, lock_timeout_ms=LOCK_TIMEOUT_MS, for_deletion=True)
    for child in store.children:
        is_full = True
        while is_full:
            async with child.acquire() as bound:
                found = await list_children(bound, store.mapping.entity, parents, limit=MAX_CHILDREN)
            outcomes = await apply([make_deletion(child.mapping.entity, i, f"parent_deleted_{i}") for i in found])
            is_full = len(found) == MAX_CHILDREN
            if is_full and not has_time:
                raise DatabaseUnavailable("too_many_children")
            # A tombstone takes a child from the next list; without one there is no progress.
            if {outcome.outcome for outcome in outcomes} == {"unavailable"}:
                raise DatabaseUnavailable("children_not_deleted")
