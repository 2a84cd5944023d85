"""Connections. None is opened before it is needed, so that the service starts, and says so, with the database away."""

from typing import Any

import asyncpg

from sync_service.dsn import Dsn

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

# An answer comes within 10 s (Svix gives up after 15): 3 to connect, 4 for a statement, the rest to read and reply.
CONNECT_SECONDS = 3
COMMAND_SECONDS = 4

# Webhooks share connections; more than this would only queue inside PostgreSQL instead of before it.
MOST_CONNECTIONS = 10


async def open_pool(dsn: Dsn) -> asyncpg.Pool:
    """Return a pool that has no connection yet; it connects, and connects again, when it is asked for one."""
    return await asyncpg.create_pool(
        dsn.url,
        min_size=0,
        max_size=MOST_CONNECTIONS,
        timeout=CONNECT_SECONDS,
        command_timeout=COMMAND_SECONDS,
        connect=_Connector(behind_pooler=True if dsn.transaction_pooler else None),
        # Nothing is ever set for a session, so there is nothing to reset: a round trip less for each loan.
        reset=_nothing_to_reset,
    )


async def connect(dsn: Dsn) -> asyncpg.Connection:
    """Return one connection, for a command that needs no pool, no statement twice and knows no hurry."""
    return await asyncpg.connect(dsn.url, timeout=10, statement_cache_size=0)


class _Connector:
    """Connects with prepared statements kept, except behind a pooler: the next one may meet another server there.

    A pooler gives itself away: the process ID in its greeting is one that it made up for cancelling, not the server's.
    """

    def __init__(self, *, behind_pooler: bool | None) -> None:
        self._behind_pooler = behind_pooler

    async def __call__(self, *args: Any, **options: Any) -> asyncpg.Connection:
        if self._behind_pooler is None:
            probe: asyncpg.Connection = await asyncpg.connect(*args, **options, statement_cache_size=0)
            try:
                self._behind_pooler = await probe.fetchval("select pg_backend_pid()") != probe.get_server_pid()
            finally:
                if self._behind_pooler is not True:
                    probe.terminate()
            if self._behind_pooler:
                return probe
        size = 0 if self._behind_pooler else 1024
        connection: asyncpg.Connection = await asyncpg.connect(*args, **options, statement_cache_size=size)
        return connection


async def _nothing_to_reset(_: object) -> None:
    pass
