"""A read-only transaction with limits, for the tables of the app and for the catalogue."""

import contextlib
from collections.abc import AsyncIterator

from sync_service.postgres.pool import Connection

# One query of the catalogue takes milliseconds; ten seconds means that the server is overloaded.
CATALOGUE_TIMEOUT = 10.0


@contextlib.asynccontextmanager
async def begin_limited_read(connection: Connection, seconds: float = CATALOGUE_TIMEOUT) -> AsyncIterator[None]:
    """Run the block in a read-only transaction with a statement timeout and a lock timeout of one second.

    A transaction pooler keeps no session state, so the limits belong to the transaction.
    """
    async with connection.transaction(readonly=True):
        await connection.execute(_LIMITS_SQL, str(max(1, round(seconds * 1000))))
        yield


_LIMITS_SQL = "select set_config('statement_timeout', $1, true), set_config('lock_timeout', '1000', true)"
