"""Writes the last states in the inbox again, parents first: a restore without Clerk."""

from collections.abc import Callable
from datetime import UTC, datetime

from sync_service.clerk.change import Snapshot
from sync_service.clerk.entities import ENTITIES, USER
from sync_service.clerk.events import Event
from sync_service.clerk.user_list import Listed
from sync_service.store.comparison import iter_deletable
from sync_service.store.events import iter_last_states
from sync_service.sync.drift_report import Report
from sync_service.sync.row_repair import RowRepair
from sync_service.sync.unseen_objects import delete_objects

# No object was known before this time, so that only rows of deleted objects are removed.
BEFORE_ALL_OBJECTS = datetime(1970, 1, 1, tzinfo=UTC)


async def restore_from_inbox(repair: RowRepair, on_progress: Callable[[Report], None]) -> None:
    """Repair the rows of all objects with a payload, and remove the rows of deleted ones. Raises `DatabaseError`.

    `repair` is that of the users. The inbox knows the deletions that arrived, and no others.
    """
    for entity in ENTITIES.values():
        if entity.name in repair.applier.store.bindings:
            await _restore(repair if entity is USER else repair.for_entity(entity), on_progress)


async def _restore(repair: RowRepair, on_progress: Callable[[Report], None]) -> None:
    async for events in iter_last_states(repair.store.database, repair.entity):
        await repair.repair([_list_object(event) for event in events])
        on_progress(repair.report)
    async for clerk_ids in iter_deletable(repair.store, BEFORE_ALL_OBJECTS):
        repair.report.count_deleted(clerk_ids)
        await delete_objects(repair, clerk_ids)


def _list_object(event: Event) -> Listed:
    assert event.clerk_id is not None  # noqa: S101  `iter_last_states` returns events with an ID only
    snapshot = event.change if isinstance(event.change, Snapshot) else None
    return Listed(event.clerk_id, 0, snapshot)
