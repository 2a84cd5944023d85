"""Count queries of the doctor: each runs read-only, in a transaction of its own, within a time limit."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from sync_service.postgres.limited_read import begin_limited_read
from sync_service.postgres.pool import Connection

# Seconds for one query and for all of them together: the doctor reports within a minute.
QUERY_TIMEOUT = 5.0
TOTAL_TIMEOUT = 40.0

T = TypeVar("T")

_UNCOUNTABLE = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, asyncpg.InsufficientPrivilegeError)


class Counter:
    """Runs count queries until the time for all of them is used up."""

    def __init__(
        self, connection: Connection, *, query_timeout: float = QUERY_TIMEOUT, total_timeout: float = TOTAL_TIMEOUT
    ) -> None:
        self.connection = connection
        self._query_timeout = query_timeout
        self._deadline = time.monotonic() + total_timeout

    async def fetch_row(self, sql: str, *parameters: object) -> dict[str, Any]:
        """Return the row as a dict; an empty one without time, lock or privilege. Raises other errors of asyncpg."""
        return dict(await self.read(lambda connection: connection.fetchrow(sql, *parameters)) or {})

    async def read(self, query: Callable[[Connection], Awaitable[T]]) -> T | None:
        """Return the result of the query; None without time, lock or privilege. Raises other errors of asyncpg."""
        seconds = min(self._query_timeout, self._deadline - time.monotonic())
        if seconds <= 0:
            return None
        try:
            async with begin_limited_read(self.connection, seconds):
                return await query(self.connection)
        except _UNCOUNTABLE:
            return None
