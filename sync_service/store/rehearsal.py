"""A rehearsal: changes are applied in one transaction, which is rolled back in the end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sync_service.postgres.errors import translate_errors
from sync_service.postgres.pool import Connection, Database
from sync_service.store.access import Store


class _RehearsalDatabase(Database):
    """One connection in a transaction. Each use is a savepoint, as it would else be a transaction of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Yield the connection. Raises `DatabaseError` for any error of the database."""
        async with self._lock:
            with translate_errors():
                async with self._connection.transaction():
                    yield self._connection
                    # A commit checks deferred constraints, and the end of a savepoint does not.
                    await self._connection.execute("set constraints all immediate")

    async def expire_connections(self) -> None:
        """Keep the connection, which has the transaction."""


@contextlib.asynccontextmanager
async def rehearse(store: Store) -> AsyncIterator[Store]:
    """Yield a store whose writes are rolled back at the end of the block. Raises `DatabaseError`.

    Triggers of the app run, and sequences advance, because PostgreSQL does not roll them back.
    """
    async with store.database.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield store.with_database(_RehearsalDatabase(connection))
        finally:
            await transaction.rollback()
