"""Asks Clerk about one user and applies the response like any other change."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from sync_service.clerk.change import Snapshot
from sync_service.clerk.client import ClerkClient, UserNotFound
from sync_service.clerk.entities import USER
from sync_service.clerk.events import Event, make_deletion
from sync_service.clerk.user import User
from sync_service.errors import DatabaseUnavailable, UnconfirmedDeletion
from sync_service.request_errors import RowRefused
from sync_service.store.identities import UserState, confirm_version
from sync_service.sync.apply import Applier
from sync_service.sync.outcome import Outcome

log = structlog.get_logger()

# Clerk's API may lag behind for a moment, and a deletion is final. A user who was confirmed less than so many seconds
# ago is requested twice.
RECENT_SECONDS = 60
SECOND_REQUEST_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class UserFetch:
    """One request for one user. `on_created` is called with a user that no webhook has created."""

    applier: Applier
    client: ClerkClient
    # Seconds.
    max_age: float
    instance_id: str | None
    on_created: Callable[[User], None]

    async def run(self, clerk_id: str, before: UserState) -> None:
        """Ask Clerk, once or twice. Raises `ClerkUnavailable`, `RowRefused` or `DatabaseError`."""
        found = await self.client.get_user(clerk_id)
        is_recent = before.age is not None and before.age < min(RECENT_SECONDS, self.max_age)
        if isinstance(found, UserNotFound) and is_recent:
            await asyncio.sleep(SECOND_REQUEST_PAUSE)
            found = await self.client.get_user(clerk_id)
        if isinstance(found, Snapshot):
            await self._save(found, before)
        elif before.row is not None or before.is_known:
            await self._delete(clerk_id, found, before)
        # An unknown user is not written: Clerk's API may lag behind, and a tombstone is final.

    async def _save(self, snapshot: Snapshot, before: UserState) -> None:
        clerk_id = snapshot.clerk_id
        updated_at = snapshot.version.updated_at
        await apply_event(self.applier, "login", Event(None, "login", None, clerk_id, snapshot))
        async with self.applier.store.database.acquire() as connection:
            await confirm_version(connection, clerk_id, updated_at)
        if before.row is None and not before.is_known:
            self.on_created(snapshot.user)

    async def _delete(self, clerk_id: str, found: UserNotFound, before: UserState) -> None:
        """Delete as `user.deleted` does, if nothing else explains the 404.

        A wrong CLERK_API_URL or CLERK_SECRET_KEY must delete no row. So the service must know the user, Clerk itself
        must report the 404, and the key set must name the pinned instance.
        """
        pinned = self.instance_id or before.instance_id
        if not (before.is_known and found.confirmed_by_clerk and pinned):
            raise UnconfirmedDeletion("an unknown user, or no Clerk instance is known")
        instances = await self.client.get_instances()
        if pinned not in instances:
            if instances:
                log.error("clerk_key_of_other_instance", setting="CLERK_SECRET_KEY")
            raise UnconfirmedDeletion("the key set does not name the pinned instance")
        # The event has an ID, so that an obstacle is filed and the retries finish the deletion.
        event = make_deletion(USER.name, clerk_id, f"login_{clerk_id}")
        outcome = await apply_event(self.applier, "login", event)
        log.info("user_deleted_at_login", outcome=outcome.outcome, reason=outcome.reason)


async def apply_event(applier: Applier, source: str, event: Event) -> Outcome:
    """Apply one event from this source; return its outcome. Raises `DatabaseUnavailable` or `RowRefused`."""
    [outcome] = await applier.with_source(source).apply([event])
    if outcome.outcome == "unavailable":
        raise DatabaseUnavailable(outcome.reason or "")
    if outcome.outcome in {"refused", "parked"} and event.id is None:
        raise RowRefused(outcome.reason or "")
    return outcome
