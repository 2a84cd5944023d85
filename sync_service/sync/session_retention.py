"""Deletes the rows of sessions that ended longer ago than `keep` of `[sessions]`."""

from sync_service.clerk.entities import SESSION
from sync_service.clerk.events import make_deletion
from sync_service.store.family import list_expired
from sync_service.sync.apply import Applier

MAX_SESSIONS = 1000

# Seconds between two looks at the table, which may have no index on the end of a session.
PAUSE = 3600.0


async def delete_expired_sessions(applier: Applier) -> int:
    """Delete up to `MAX_SESSIONS` rows; return their number. Raises `DatabaseError`."""
    store = applier.store
    if SESSION.name not in store.bindings:
        return 0
    sessions = store.for_entity(SESSION.name)
    if sessions.mapping.keep is None:
        return 0
    async with sessions.acquire() as bound:
        expired = await list_expired(bound, sessions.mapping.keep, limit=MAX_SESSIONS)
    await applier.apply_again([make_deletion(SESSION.name, i, f"expired_{i}") for i in expired])
    return len(expired)
