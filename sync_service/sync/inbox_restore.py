"""Writes the last state of each user in the inbox again: a restore without Clerk."""

from collections.abc import Callable
from datetime import UTC, datetime

from sync_service.clerk.change import Snapshot
from sync_service.clerk.events import Event
from sync_service.clerk.user_list import Listed
from sync_service.store.comparison import iter_deletable
from sync_service.store.events import iter_last_states
from sync_service.sync.drift_report import Report
from sync_service.sync.row_repair import RowRepair
from sync_service.sync.unseen_users import delete_users

# No user was known before this time, so that only rows of deleted users are removed.
BEFORE_ALL_USERS = datetime(1970, 1, 1, tzinfo=UTC)


async def restore_from_inbox(repair: RowRepair, on_progress: Callable[[Report], None]) -> None:
    """Repair the rows of all users with a payload, and remove the rows of deleted users. Raises `DatabaseError`.

    The inbox knows the deletions that arrived, and no others.
    """
    store = repair.applier.store
    async for events in iter_last_states(store.database):
        await repair.repair([_list_user(event) for event in events])
        on_progress(repair.report)
    async for clerk_ids in iter_deletable(store, BEFORE_ALL_USERS):
        repair.report.count_deleted(clerk_ids)
        await delete_users(repair, clerk_ids)


def _list_user(event: Event) -> Listed:
    assert event.clerk_id is not None  # noqa: S101  `iter_last_states` returns events of users only
    snapshot = event.change if isinstance(event.change, Snapshot) else None
    return Listed(event.clerk_id, 0, snapshot)
