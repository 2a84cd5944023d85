"""Refreshes users from Clerk. Single flight: concurrent callers share one request."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from sync_service.clerk.client import ClerkClient
from sync_service.clerk.rate_limit import RateLimiter
from sync_service.clerk.user import User
from sync_service.errors import ClerkUnavailable, DatabaseError, SyncError
from sync_service.request_errors import DeletedUser, TooManyRequests
from sync_service.store.identities import (
    UserState,
    acquire_lease,
    clear_refetch,
    get_user_state,
    prune_leases,
    release_lease,
    users_to_refetch,
)
from sync_service.sync.apply import Applier
from sync_service.sync.user_fetch import UserFetch

log = structlog.get_logger()

# Maximum concurrent reads. asyncpg's pool is not FIFO, so some callers would wait ten times as long as others; a
# semaphore is FIFO, and it keeps connections free for webhooks.
MAX_CONCURRENT_READS = 6

# Seconds between two checks whether another process has finished its request to Clerk.
MIN_POLL_PAUSE, MAX_POLL_PAUSE = 0.02, 0.4

# Users refetched in one round of the background work: a small part of the quota.
MAX_REFETCHES = 20

# Seconds until a refetch that failed because of its user is tried again.
REFETCH_PAUSE = 300.0

# A user created less than so many seconds ago may be ahead of the webhook. For an older user a webhook was missed.
RACE_SECONDS = 60


class UserRefresher:
    """Requests to Clerk of one process. Processes coordinate through leases in the database."""

    def __init__(
        self,
        applier: Applier,
        client: ClerkClient | None,
        limiter: RateLimiter,
        *,
        max_age: timedelta,
        instance_id: str | None = None,
        on_missed_webhook: Callable[[], None] = lambda: None,
    ) -> None:
        """Use `client` within the limit; call `on_missed_webhook` for each user that no webhook has created."""
        self._applier = applier
        self._store = applier.store
        self._client = client
        self._limiter = limiter
        self._max_age = max_age.total_seconds()
        self._instance_id = instance_id
        self._on_missed_webhook = on_missed_webhook
        self._reads = asyncio.Semaphore(MAX_CONCURRENT_READS)
        self._requests: dict[str, asyncio.Task[UserState]] = {}
        # Refetches go in turn by Clerk ID, so that users whose refetch fails do not keep others waiting.
        self._last_refetched = ""
        self._postponed: dict[str, float] = {}

    async def get_user_state(self, clerk_id: str) -> UserState:
        """Return the state of the user in the database. Raises `DeletedUser` or `DatabaseError`."""
        async with self._reads, self._store.database.acquire() as connection:
            state = await get_user_state(connection, self._store.binding.lookups, clerk_id)
        if state.is_deleted:
            raise DeletedUser("This user is deleted.")
        return state

    @property
    def can_refresh(self) -> bool:
        """Whether there is a key for Clerk's API."""
        return self._client is not None

    async def refetch_pending(self) -> int:
        """Refresh the users whose right state only Clerk has; return their number. Raises `DatabaseError`."""
        async with self._store.database.acquire() as connection:
            await prune_leases(connection)
            pending = await users_to_refetch(connection, MAX_REFETCHES, self._last_refetched) if self._client else []
        refreshed = 0
        for clerk_id in pending:
            try:
                refreshed += await self._refetch(clerk_id)
            except ClerkUnavailable as error:
                log.info("refetch_skipped", reason=str(error))
                return refreshed
            except Exception as error:  # noqa: BLE001  one user's failure, such as a row that the table refuses
                log.info("refetch_skipped", reason=type(error).__name__)
                self._postponed[clerk_id] = time.monotonic() + REFETCH_PAUSE
            self._last_refetched = clerk_id
        if len(pending) < MAX_REFETCHES:
            self._last_refetched = ""
        return refreshed

    async def _refetch(self, clerk_id: str) -> bool:
        """Refresh one user; return False if that failed a short time ago."""
        if self._postponed.get(clerk_id, 0) > time.monotonic():
            return False
        self._postponed.pop(clerk_id, None)
        await asyncio.shield(self.refresh(clerk_id, await self.get_user_state(clerk_id)))
        async with self._store.database.acquire() as connection:
            await clear_refetch(connection, clerk_id)
        return True

    async def close(self) -> None:
        """Cancel the requests that run."""
        for task in self._requests.values():
            task.cancel()
        await asyncio.gather(*self._requests.values(), return_exceptions=True)

    def refresh(self, clerk_id: str, state: UserState) -> asyncio.Task[UserState]:
        """Return the task that asks Clerk about the user; callers share a task that already runs.

        Its result is the new state. It raises `DeletedUser`, `TooManyRequests`, `ClerkUnavailable` or `DatabaseError`.
        A caller must not cancel it, because others may wait for it too.
        """
        assert self._client is not None  # noqa: S101  callers check `can_refresh` first
        task = self._requests.get(clerk_id)
        if task is None:
            task = self._requests[clerk_id] = asyncio.create_task(self._request(self._client, clerk_id, state))
            task.add_done_callback(lambda done: self._finish_request(clerk_id, done))
        return task

    def _finish_request(self, clerk_id: str, task: asyncio.Task[UserState]) -> None:
        del self._requests[clerk_id]
        # Retrieved here, because the task may have no other reader.
        error = None if task.cancelled() else task.exception()
        if error and not isinstance(error, SyncError):
            log.critical("unhandled_exception", exc_info=error)

    async def _request(self, client: ClerkClient, clerk_id: str, before: UserState) -> UserState:
        """Return the state after this process, or another one, has asked Clerk."""
        client.ensure_available()
        seconds = self._limiter.acquire(clerk_id, time.monotonic())
        if seconds:
            raise TooManyRequests(math.ceil(seconds))
        pause = MIN_POLL_PAUSE
        while (expires_at := await self._acquire_lease(clerk_id)) is None:
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_POLL_PAUSE)
            after = await self.get_user_state(clerk_id)
            if after.confirmed_at != before.confirmed_at:
                return after
        try:
            fetch = UserFetch(self._applier, client, self._max_age, self._instance_id, self.report_missed_webhook)
            await fetch.run(clerk_id, before)
            return await self.get_user_state(clerk_id)
        finally:
            with contextlib.suppress(DatabaseError):
                async with self._store.database.acquire() as connection:
                    await release_lease(connection, clerk_id, expires_at)

    async def _acquire_lease(self, clerk_id: str) -> datetime | None:
        async with self._store.database.acquire() as connection:
            return await acquire_lease(connection, clerk_id)

    def report_missed_webhook(self, user: User) -> None:
        """Count a user that a login has created; log whether a webhook was due."""
        self._on_missed_webhook()
        if user.created_at is not None and time.time() - user.created_at / 1000 > RACE_SECONDS:
            log.warning("missed_webhook", hint="check the endpoint in Clerk's dashboard: do its webhooks arrive?")
        else:
            log.info("login_before_webhook")
