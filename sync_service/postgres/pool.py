"""Connections. None is opened before it is needed, so that the service starts, and says so, with the database away."""

import asyncpg

from sync_service.dsn import Dsn

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
        # Behind PgBouncer in transaction mode the next statement may meet another server connection.
        statement_cache_size=0 if dsn.transaction_pooler else 1024,
    )


async def connect(dsn: Dsn) -> asyncpg.Connection:
    """Return one connection, for a command that needs no pool and knows no hurry."""
    return await asyncpg.connect(dsn.url, timeout=10, statement_cache_size=0 if dsn.transaction_pooler else 1024)
