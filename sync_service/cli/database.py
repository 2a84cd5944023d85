"""A database connection for one command."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from sync_service.cli.network_errors import explain_reason
from sync_service.dsn import Dsn
from sync_service.errors import (
    ChangeRejected,
    DatabaseError,
    DatabaseUnavailable,
    MappingMismatch,
    SettingsError,
    SyncError,
)
from sync_service.postgres.errors import translate_errors
from sync_service.postgres.pool import connect
from sync_service.settings import Settings


def require_dsn(settings: Settings) -> Dsn:
    """Return the DSN. Raises `SettingsError` if there is none."""
    if settings.database is None:
        raise SettingsError(["DATABASE_URL: not set"])
    return settings.database


def describe_error(error: DatabaseError) -> str:
    """Return the class of the error and the next step. The doctor finds a missing schema, privilege or primary."""
    return (
        f"The database reports an error ({error.reason}). Run `sync-service doctor`: it checks the server, the schema"
        " and the privileges, and prints what to do."
    )


@contextlib.asynccontextmanager
async def open_connection(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection. Raises `SyncError` with the class of a database error, never with its message."""
    dsn = require_dsn(settings)
    try:
        with translate_errors():
            connection = await connect(dsn)
    except (DatabaseUnavailable, ChangeRejected) as error:
        raise SyncError(f"The database of DATABASE_URL cannot be reached: {explain_reason(error.reason)}.") from error
    try:
        with translate_errors():
            yield connection
    except MappingMismatch:
        raise
    except (DatabaseUnavailable, ChangeRejected) as error:
        raise SyncError(describe_error(error)) from error
    finally:
        await connection.close(timeout=5)
