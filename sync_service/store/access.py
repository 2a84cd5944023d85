"""Access to the database: a connection together with the queries of the mapped table."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sync_service.mapping.queries import Queries
from sync_service.mapping.table import TableMapping
from sync_service.mapping.table_binding import TableBinding
from sync_service.postgres.pool import Connection, Database


@dataclass(frozen=True, slots=True)
class BoundConnection:
    """A connection, and the queries of the table as it is now."""

    connection: Connection
    queries: Queries


class Store:
    """The database of the service, and the binding of its mapping."""

    def __init__(self, database: Database, mapping: TableMapping) -> None:
        self.database = database
        self.mapping = mapping
        self.binding = TableBinding(mapping)

    def with_database(self, database: Database) -> "Store":
        """Return a store with other access to the same database, and the same binding."""
        store = Store(database, self.mapping)
        store.binding = self.binding
        return store

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[BoundConnection]:
        """Yield a connection with the queries of the table. Raises `DatabaseError`, also `MappingMismatch`."""
        async with self.database.acquire() as connection:
            yield BoundConnection(connection, await self.binding.ensure_bound(connection))
