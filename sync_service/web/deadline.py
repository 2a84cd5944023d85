"""The time limit of /sync and /users."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sync_service.errors import DatabaseUnavailable

# Every response comes within 10 s, whether the key set, the body, the database or Clerk is slow.
RESPONSE_TIMEOUT = 9


@contextlib.asynccontextmanager
async def response_deadline() -> AsyncIterator[None]:
    """Limit the time of the block. Raises `DatabaseUnavailable`."""
    try:
        async with asyncio.timeout(RESPONSE_TIMEOUT):
            yield
    except TimeoutError:
        raise DatabaseUnavailable("no response in time") from None
