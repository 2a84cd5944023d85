"""Requests for lists of Clerk's objects: they wait for the quota and repeat after failures."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from sync_service.clerk.client import ClerkClient
from sync_service.clerk.rate_limit import RateLimiter
from sync_service.errors import ClerkAuthError, ClerkRequestRefused, ClerkUnavailable

log = structlog.get_logger()

T = TypeVar("T")

# Two fifths of the quota of a production and of a development instance. The rest is for logins and for the app itself.
MAX_REQUESTS = 400
MAX_REQUESTS_OF_DEVELOPMENT = 40

# Seconds. Clerk counts as unreachable if requests fail for so long; a request may take `LIST_TIMEOUT` of them.
GIVE_UP_AFTER = 28.0
LIST_TIMEOUT = 10.0
MIN_PAUSE, MAX_PAUSE = 0.25, 4.0

# Clerk says with each 429 how long to wait. After so many in a row the limit is no temporary one.
MAX_THROTTLED = 20
TOO_MANY_REQUESTS = "429"


def create_limiter(secret_key: str) -> RateLimiter:
    """Return the limiter of lists for the instance of this key."""
    most = MAX_REQUESTS_OF_DEVELOPMENT if secret_key.startswith("sk_test_") else MAX_REQUESTS
    return RateLimiter(max_requests=most, max_requests_per_user=most)


class ListRequests:
    """Makes requests through a client, one at a time."""

    def __init__(
        self,
        client: ClerkClient,
        limiter: RateLimiter,
        *,
        give_up_after: float = GIVE_UP_AFTER,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Give up on an unreachable Clerk after so many seconds."""
        self.client = client
        self._limiter = limiter
        self._give_up_after = give_up_after
        self._clock = clock
        self._sleep = sleep

    async def repeat(self, request: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a request that is repeated after failures, and after the time that a 429 names.

        Raises `ClerkRequestRefused` for refused parameters, `ClerkAuthError`, or `ClerkUnavailable` in the end.
        """
        first_failure = 0.0
        pause, throttled = MIN_PAUSE, 0
        while True:
            await self._wait_for_quota()
            began = self._clock()
            try:
                return await request()
            except (ClerkAuthError, ClerkRequestRefused):
                raise
            except ClerkUnavailable as error:
                if error.reason == TOO_MANY_REQUESTS:
                    throttled += 1
                    first_failure = 0.0
                    wait = float(error.retry_after_seconds)
                    is_over = throttled > MAX_THROTTLED
                else:
                    first_failure = first_failure or began
                    wait, pause = max(pause, self.client.pause), min(pause * 2, MAX_PAUSE)
                    is_over = self._clock() + wait - first_failure > self._give_up_after - LIST_TIMEOUT
                if is_over:
                    raise
                log.info("clerk_retry", reason=error.reason, seconds=wait)
                await self._sleep(wait)

    async def _wait_for_quota(self) -> None:
        while seconds := self._limiter.acquire("", self._clock()):
            await self._sleep(seconds)
