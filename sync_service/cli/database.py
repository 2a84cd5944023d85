"""A connection for the length of one command, and what is said when there is none."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from sync_service.dsn import Dsn
from sync_service.errors import SyncError, Unappliable, Unavailable, Unfit
from sync_service.postgres.faults import translated
from sync_service.postgres.pool import connect


@contextlib.asynccontextmanager
async def connected(dsn: Dsn) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection. Raises `SyncError` with the class of what went wrong, never its message."""
    try:
        with translated():
            connection = await connect(dsn)
    except (Unavailable, Unappliable) as error:
        raise SyncError(f"The database of DATABASE_URL cannot be reached ({error}).") from error
    try:
        with translated():
            yield connection
    except Unfit:
        raise
    except (Unavailable, Unappliable) as error:
        raise SyncError(f"The database refused ({error}).") from error
    finally:
        await connection.close(timeout=5)
