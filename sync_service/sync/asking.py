"""Clerk is asked about a user, once however many want to know, and what it says is applied like all else."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from sync_service.clerk.api import ClerkApi, Missing
from sync_service.clerk.breaker import Quota
from sync_service.clerk.events import DELETED, Event
from sync_service.clerk.values import Deletion, Snapshot, User
from sync_service.errors import (
    ClerkRefused,
    ClerkUnavailable,
    DatabaseFault,
    DeletedUser,
    SyncError,
    TooManyRequests,
    Unavailable,
)
from sync_service.postgres.faults import translated
from sync_service.postgres.logins import (
    Found,
    asked_about,
    confirm,
    forget_leases,
    give_up_lease,
    look,
    save_again,
    take_lease,
    to_ask_about,
)
from sync_service.sync.apply import Applier
from sync_service.sync.parking import Outcome

log = structlog.get_logger()

# Looks at a time. A pool's connection goes to whoever asks first after it is free, so that some wait ten times as long
# as others; a semaphore keeps the order, and leaves connections to the webhooks.
MOST_LOOKS = 6

# Between two looks at whether somebody else's question to Clerk has been answered.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.4

# Clerk may be a moment behind itself, and a deletion is for ever: if the user was there just now, it is asked twice.
JUST_NOW_SECONDS = 60
ASK_AGAIN_SECONDS = 1.0

# Asked about in one round of the background's work: a small part of the quota, for nobody waits.
MOST_DOUBTS = 20

# A sign-up of this moment is a race with its webhook; what is older, a webhook should have brought.
RACE_SECONDS = 60


class Questions:
    """The questions of one process; what processes share, they share through the database."""

    def __init__(
        self,
        applier: Applier,
        api: ClerkApi | None,
        quota: Quota,
        *,
        max_age: timedelta,
        instance_id: str | None = None,
        missed: Callable[[], None] = lambda: None,
    ) -> None:
        """Ask `api` within the quota; call `missed` for each user that no webhook has brought."""
        self._applier = applier
        self._pool = applier.pool
        self._api = api
        self._quota = quota
        self._max_age = max_age.total_seconds()
        self._instance_id = instance_id
        self._missed = missed
        self._looks = asyncio.Semaphore(MOST_LOOKS)
        self._asking: dict[str, asyncio.Task[Found]] = {}

    async def look(self, clerk_id: str) -> Found:
        """Return what is known of the user. Raises `DeletedUser` or `DatabaseFault`."""
        async with self._looks:
            found = await look(self._pool, self._applier.statements, clerk_id)
        if found.deleted:
            raise DeletedUser("This user is deleted.")
        return found

    @property
    def can_ask(self) -> bool:
        """Whether there is a key to ask Clerk with."""
        return self._api is not None

    async def ask_about_doubts(self) -> int:
        """Ask Clerk about those of whom nobody else knows what is right; return how many. Raises `DatabaseFault`."""
        with translated():
            async with self._pool.acquire() as connection:
                await forget_leases(connection)
                doubted = await to_ask_about(connection, MOST_DOUBTS) if self._api else []
        asked = 0
        for clerk_id in doubted:
            try:
                await asyncio.shield(self.ask(clerk_id, await self.look(clerk_id)))
            except (ClerkUnavailable, TooManyRequests) as fault:
                log.info("not asked now", reason=str(fault))
                break
            except DeletedUser:
                continue
            with translated():
                async with self._pool.acquire() as connection:
                    await asked_about(connection, clerk_id)
            asked += 1
        return asked

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def ask(self, clerk_id: str, found: Found) -> asyncio.Task[Found]:
        """Return the question that is under way about the user, else a new one.

        It ends with what is known then, or with `DeletedUser`, `TooManyRequests`, `ClerkUnavailable` or
        `DatabaseFault`. Nobody who waits for it may cancel it.
        """
        assert self._api is not None  # noqa: S101  whoever asks has looked whether it can
        task = self._asking.get(clerk_id)
        if task is None:
            task = self._asking[clerk_id] = asyncio.create_task(self._asked(self._api, clerk_id, found))
            task.add_done_callback(lambda done: self._answered(clerk_id, done))
        return task

    def _answered(self, clerk_id: str, task: asyncio.Task[Found]) -> None:
        del self._asking[clerk_id]
        # Looked at here, for perhaps nobody else does.
        error = None if task.cancelled() else task.exception()
        if error and not isinstance(error, SyncError):
            log.critical("bug", exc_info=error)

    async def _asked(self, api: ClerkApi, clerk_id: str, before: Found) -> Found:
        """Return what is known once Clerk has been asked, by us or by another process."""
        api.check()
        seconds = self._quota.take(clerk_id, time.monotonic())
        if seconds:
            raise TooManyRequests(math.ceil(seconds))
        until = None
        pause = FIRST_PAUSE
        while True:
            with translated():
                async with self._pool.acquire() as connection:
                    until = await take_lease(connection, clerk_id)
            if until:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            after = await self.look(clerk_id)
            if after.confirmed_at != before.confirmed_at:
                return after
        try:
            return await self._fetch(api, clerk_id, before)
        finally:
            with contextlib.suppress(DatabaseFault), translated():
                async with self._pool.acquire() as connection:
                    await give_up_lease(connection, clerk_id, until)

    async def _fetch(self, api: ClerkApi, clerk_id: str, before: Found) -> Found:
        told = await api.user(clerk_id)
        was_there = before.row is not None or before.known
        just_now = before.age is not None and before.age < min(JUST_NOW_SECONDS, self._max_age)
        if isinstance(told, Missing) and just_now:
            await asyncio.sleep(ASK_AGAIN_SECONDS)
            told = await api.user(clerk_id)
        if isinstance(told, Snapshot):
            await self._save(told, before)
        elif was_there:
            await self._delete(api, clerk_id, told, before)
        # Else nothing is written: Clerk may be a moment behind, and a tombstone is for ever.
        return await self.look(clerk_id)

    async def _save(self, snapshot: Snapshot, before: Found) -> None:
        clerk_id = snapshot.clerk_id
        updated_at = snapshot.version.updated_at
        if before.known and (before.row is None or before.address_wanted):
            with translated():
                async with self._pool.acquire() as connection:
                    await save_again(connection, self._applier.statements, clerk_id, updated_at)
        outcome = await applied(self._applier, "login", Event(None, "login", None, clerk_id, snapshot))
        if outcome.outcome == "unstorable":
            raise Unavailable(outcome.reason or "")
        with translated():
            async with self._pool.acquire() as connection:
                await confirm(connection, clerk_id, updated_at)
        if before.row is None and not before.known:
            self._tell_missed(snapshot.user)

    async def _delete(self, api: ClerkApi, clerk_id: str, told: Missing, before: Found) -> None:
        """Delete as `user.deleted` does, if it was Clerk who said so, of the instance that is ours."""
        if not told.told_by_clerk:
            raise ClerkUnavailable("a 404 that is not Clerk's: look at CLERK_API_URL")
        ours = self._instance_id or before.instance_id
        instances = await api.instances() if ours else frozenset()
        if instances and ours not in instances:
            log.error("Clerk does not know the user", setting="CLERK_SECRET_KEY", why="it is of another instance")
            raise ClerkRefused("another instance")
        # With an ID, so that what stands in the way is filed, and the deletion finished by the retries.
        event = Event(f"login_{clerk_id}", DELETED, None, clerk_id, Deletion(clerk_id))
        outcome = await applied(self._applier, "login", event)
        log.info("deleted, for Clerk does not know the user", outcome=outcome.outcome, reason=outcome.reason)

    def _tell_missed(self, user: User) -> None:
        if user.created_at is not None and time.time() - user.created_at / 1000 > RACE_SECONDS:
            self._missed()
            log.warning("a login has brought what no webhook had", hint="do Clerk's webhooks arrive?")
        else:
            log.info("a login was before its webhook")


async def applied(applier: Applier, source: str, event: Event) -> Outcome:
    """Return what became of what that source tells, once it is committed. Raises `Unavailable`."""
    [outcome] = await applier.telling(source).apply([event])
    if outcome.outcome == "unavailable":
        raise Unavailable(outcome.reason or "")
    return outcome
