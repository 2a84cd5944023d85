"""The actions of an operator on one user, with their audit."""

import asyncio

from sync_service.postgres.pool import Database
from sync_service.store.access import BoundConnection
from sync_service.store.audit import AuditEntry, add_entry, hide_personal_text
from sync_service.store.deletions import restore_user
from sync_service.sync.login import Login, build_login
from sync_service.sync.refresh import UserRefresher


async def refresh_user(database: Database, refresher: UserRefresher, clerk_id: str, who: str) -> Login:
    """Ask Clerk about the user; return the row.

    Raises `UnknownUser`, `DeletedUser`, `RowRefused`, `TooManyRequests`, `ClerkUnavailable` or `DatabaseError`.
    """
    state = await refresher.get_user_state(clerk_id)
    subject = hide_personal_text(clerk_id, is_stored=state.is_known or state.row is not None)
    async with database.acquire() as connection:
        await add_entry(connection, AuditEntry(who, "refresh", subject))
    # Shielded: a login may wait for the same task.
    return build_login(state, await asyncio.shield(refresher.refresh(clerk_id, state)))


async def restore_deleted_user(bound: BoundConnection, clerk_id: str, who: str) -> bool:
    """Cancel a deletion whose row still exists, together with its audit; return whether there was one.

    Raises `ChangeRejected` if the row keeps the mark of the deletion, and the errors of asyncpg.
    """
    async with bound.connection.transaction():
        is_restored = await restore_user(bound, clerk_id)
        if is_restored:
            await add_entry(bound.connection, AuditEntry(who, "restore", clerk_id))
    return is_restored
