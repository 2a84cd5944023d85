"""A database connection for one command."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from sync_service.dsn import Dsn
from sync_service.errors import SettingsError, SyncError, Unappliable, Unavailable, Unfit
from sync_service.postgres.faults import translated
from sync_service.postgres.pool import connect
from sync_service.settings import Settings


def require_dsn(settings: Settings) -> Dsn:
    """Return the DSN. Raises `SettingsError` if there is none."""
    if settings.database is None:
        raise SettingsError(["DATABASE_URL: not set"])
    return settings.database


@contextlib.asynccontextmanager
async def open_connection(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection. Raises `SyncError` with the class of a database error, never with its message."""
    dsn = require_dsn(settings)
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
        raise SyncError(f"The database reports an error ({error}).") from error
    finally:
        await connection.close(timeout=5)
