"""A login: the row at once if it is fresh, else what Clerk says of the user."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog

from sync_service.clerk.events import Event
from sync_service.clerk.values import Snapshot
from sync_service.errors import (
    BadRequest,
    BadToken,
    ClerkUnavailable,
    DatabaseFault,
    TooManyRequests,
    UnknownUser,
)
from sync_service.postgres.logins import Found
from sync_service.sync.apply import Applier
from sync_service.sync.asking import Questions, applied

log = structlog.get_logger()

# How long an old row's answer waits for Clerk: a quick answer makes it a new one, a slow one is for the next login.
BEHIND_SECONDS = 0.1
# How long one waits who has asked for it.
REFRESH_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Login:
    """`current`, `created`, `updated` or `unverified`, and the app's row as JSON text."""

    outcome: str
    row: str


class Logins:
    """Answers who signs in."""

    def __init__(
        self, applier: Applier, questions: Questions, *, max_age: timedelta, instance_id: str | None = None
    ) -> None:
        """Ask about rows older than `max_age`; without an `instance_id`, tokens are of the one in the database."""
        self._applier = applier
        self._questions = questions
        self._max_age = max_age.total_seconds()
        self._instance_id = instance_id

    async def sync(
        self,
        clerk_id: str,
        *,
        token_instance: str | None = None,
        refresh: bool = False,
        profile: Snapshot | None = None,
    ) -> Login:
        """Return the user's row, made or renewed if need be.

        `token_instance` is the instance of the caller's session token, `profile` what the app says of a user whom
        nobody knows yet. Raises `BadToken`, `BadRequest`, `UnknownUser`, `DeletedUser`, `TooManyRequests`,
        `ClerkUnavailable` or `DatabaseFault`.
        """
        found = await self._questions.look(clerk_id)
        if self._instance_id is None and token_instance and found.instance_id not in {None, token_instance}:
            raise BadToken("The token is of another Clerk instance than the webhooks.")
        if found.row is not None and not refresh and found.age is not None and found.age <= self._max_age:
            return Login("current", found.row)
        if not self._questions.can_ask:
            return await self._without_clerk(clerk_id, found, profile)
        asking = self._questions.ask(clerk_id, found)
        if found.row is None:
            # Shielded: others wait for it too, and a caller may leave.
            return _told(found, await asyncio.shield(asking))
        return await self._renewed(found.row, found, asking, refresh=refresh)

    async def _without_clerk(self, clerk_id: str, found: Found, profile: Snapshot | None) -> Login:
        if found.row is None and profile:
            outcome = await applied(self._applier, "profile", Event(None, "profile", None, clerk_id, profile))
            if outcome.outcome == "unstorable":
                raise BadRequest("The profile holds text or numbers that PostgreSQL cannot store.")
            found = await self._questions.look(clerk_id)
        if found.row is None:
            raise ClerkUnavailable("CLERK_SECRET_KEY is not set")
        return Login("unverified", found.row)

    async def _renewed(self, row: str, found: Found, asking: asyncio.Task[Found], *, refresh: bool) -> Login:
        """Return what Clerk says if it says it soon enough, else the row as it is; the question goes on behind it."""
        await asyncio.wait({asking}, timeout=REFRESH_SECONDS if refresh else BEHIND_SECONDS)
        if asking.done():
            try:
                return _told(found, asking.result())
            except TooManyRequests:
                if refresh:
                    raise
            except (ClerkUnavailable, DatabaseFault) as fault:
                log.info("not refreshed", reason=fault.reason)
        return Login("unverified", row)


def _told(before: Found, after: Found) -> Login:
    if after.row is None:
        raise UnknownUser("Clerk does not know this user.")
    if before.row is None:
        return Login("created", after.row)
    return Login("current" if after.row == before.row else "updated", after.row)
