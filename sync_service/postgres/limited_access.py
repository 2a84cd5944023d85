"""A part of the pool: callers with many or long statements leave the other connections to webhooks and logins."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sync_service.postgres.pool import Connection, Database


class LimitedDatabase(Database):
    """The same database, with a limit on the connections in use. Waiting callers are served in their order."""

    def __init__(self, database: Database, max_connections: int) -> None:
        self._database = database
        self._free = asyncio.Semaphore(max_connections)

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Yield a connection. Raises `DatabaseError` for any error of the database."""
        async with self._free, self._database.acquire() as connection:
            yield connection

    async def expire_connections(self) -> None:
        """Replace each open connection at its next use."""
        await self._database.expire_connections()
