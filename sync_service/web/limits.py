"""Time limits of a request. A response comes within 10 s, because Svix gives up after 15."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sync_service.clerk.client import REQUEST_TIMEOUT
from sync_service.errors import DatabaseUnavailable
from sync_service.sync.commit import DELETE_TIMEOUT
from sync_service.sync.login import STALE_WAIT


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds. A webhook takes `body` and `apply`, /sync and /users take `response` for all steps together.

    `clerk_request` bounds one request to Clerk, `deletion` the cascade of a webhook; a longer one continues in the
    background. A login with an old row waits `stale_wait` for Clerk. A replay by an operator gives a deletion
    `replay_deletion`, and one of many events ends after `bulk_replay`: routers of platforms wait for 30 s.
    """

    body: float = 3
    apply: float = 6
    response: float = 9
    clerk_request: float = REQUEST_TIMEOUT
    deletion: float = DELETE_TIMEOUT
    stale_wait: float = STALE_WAIT
    replay_deletion: float = 5
    bulk_replay: float = 25


@contextlib.asynccontextmanager
async def response_deadline(seconds: float) -> AsyncIterator[None]:
    """Limit the time of the block. Raises `DatabaseUnavailable`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DatabaseUnavailable("no response in time") from None
