"""A login: a fresh row is returned at once; a missing or old one is refreshed from Clerk."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import structlog

from sync_service.clerk.change import Snapshot
from sync_service.clerk.events import Event
from sync_service.errors import ClerkUnavailable, DatabaseError, UnconfirmedDeletion
from sync_service.request_errors import BadToken, RowRefused, TooManyRequests, UnknownUser
from sync_service.store.identities import UserState
from sync_service.sync.apply import Applier
from sync_service.sync.refresh import UserRefresher
from sync_service.sync.user_fetch import apply_event

log = structlog.get_logger()

# Stale-while-revalidate, in seconds: a login with an old row waits so long for Clerk. A slower response updates the row
# for the next login.
STALE_WAIT = 0.1
# A caller that asked for a refresh waits longer.
REFRESH_WAIT = 6.0


@dataclass(frozen=True, slots=True)
class Login:
    """`current`, `created`, `updated` or `unverified`, and the application's row as JSON text."""

    outcome: Literal["current", "created", "updated", "unverified"]
    row: str


class LoginService:
    """Returns the row of a user who signs in."""

    def __init__(
        self,
        applier: Applier,
        refresher: UserRefresher,
        *,
        max_age: timedelta,
        instance_id: str | None = None,
        stale_wait: float = STALE_WAIT,
    ) -> None:
        """Refresh rows older than `max_age`; without `instance_id`, accept tokens of the pinned instance."""
        self._applier = applier
        self._refresher = refresher
        self._max_age = max_age.total_seconds()
        self._instance_id = instance_id
        self._stale_wait = stale_wait

    async def sync(
        self,
        clerk_id: str,
        *,
        token_instance: str | None = None,
        refresh: bool = False,
        profile: Snapshot | None = None,
    ) -> Login:
        """Return the user's row, created or refreshed if necessary.

        `token_instance` is the instance of the session token; `profile` creates an unknown user where no key for
        Clerk's API is set. Raises `BadToken`, `UnknownUser`, `DeletedUser`, `TooManyRequests`,
        `ClerkUnavailable` or `DatabaseError`.
        """
        state = await self._refresher.get_user_state(clerk_id)
        if self._instance_id is None and token_instance and state.instance_id not in {None, token_instance}:
            raise BadToken("The token is of another Clerk instance than the webhooks.")
        if state.row is not None and not refresh and state.age is not None and state.age <= self._max_age:
            return Login("current", state.row)
        if not self._refresher.can_refresh:
            return await self._sync_without_clerk(clerk_id, state, profile)
        task = self._refresher.refresh(clerk_id, state)
        if state.row is None:
            # Shielded: other callers wait for the same task, and this caller may disconnect.
            return build_login(state, await asyncio.shield(task))
        return await self._wait_for_refresh(state.row, state, task, refresh=refresh)

    async def _sync_without_clerk(self, clerk_id: str, state: UserState, profile: Snapshot | None) -> Login:
        if state.row is None and profile:
            await apply_event(self._applier, "profile", Event(None, "profile", None, clerk_id, profile))
            if not state.is_known:
                self._refresher.report_missed_webhook(profile.user)
            state = await self._refresher.get_user_state(clerk_id)
        if state.row is None:
            raise ClerkUnavailable("CLERK_SECRET_KEY is not set")
        return Login("unverified", state.row)

    async def _wait_for_refresh(
        self, row: str, state: UserState, task: asyncio.Task[UserState], *, refresh: bool
    ) -> Login:
        """Return the refreshed row if Clerk responds in time, else the row as it is; the refresh continues."""
        await asyncio.wait({task}, timeout=REFRESH_WAIT if refresh else self._stale_wait)
        if task.done():
            try:
                return build_login(state, task.result())
            except UnconfirmedDeletion:  # Clerk answered: the row may be of a deleted user
                raise
            except TooManyRequests:
                if refresh:
                    raise
            except (ClerkUnavailable, DatabaseError, RowRefused) as error:
                log.info("refresh_failed", reason=error.reason)
        return Login("unverified", row)


def build_login(before: UserState, after: UserState) -> Login:
    """Return the outcome of a refresh. Raises `UnknownUser` if there is no row."""
    if after.row is None:
        raise UnknownUser("Clerk does not know this user.")
    if before.row is None:
        return Login("created", after.row)
    return Login("current" if after.row == before.row else "updated", after.row)
