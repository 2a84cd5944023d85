"""Access to the database: a connection together with the queries of a mapped table."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from sync_service.clerk.entities import Parent
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
    """The database of the service, and the binding of one mapping, with those of the related tables by entity."""

    def __init__(
        self, database: Database, mapping: TableMapping, bindings: Mapping[str, TableBinding] | None = None
    ) -> None:
        self.database = database
        self.mapping = mapping
        self.bindings = bindings or {one.entity: TableBinding(one) for one in mapping.all}
        self.binding = self.bindings[mapping.entity]

    def with_database(self, database: Database) -> "Store":
        """Return a store with other access to the same database, and the same bindings."""
        return Store(database, self.mapping, self.bindings)

    def for_entity(self, entity: str) -> "Store":
        """Return the store of a related table."""
        return Store(self.database, self.bindings[entity].mapping, self.bindings)

    @property
    def parents(self) -> list[Parent]:
        """The parents of this table's objects that have a table too."""
        return [parent for parent in self.mapping.kind.parents if parent.entity in self.bindings]

    @property
    def children(self) -> list["Store"]:
        """The stores of the tables whose objects have this table's objects as parents."""
        return [
            self.for_entity(entity)
            for entity, binding in self.bindings.items()
            if any(parent.entity == self.mapping.entity for parent in binding.mapping.kind.parents)
        ]

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[BoundConnection]:
        """Yield a connection with the queries of the table. Raises `DatabaseError`, also `MappingMismatch`."""
        async with self.database.acquire() as connection:
            yield await self.bind(connection)

    async def bind(self, connection: Connection) -> BoundConnection:
        """Return a connection with the queries of the table. Raises as `acquire` does."""
        return BoundConnection(connection, await self.binding.ensure_bound(connection))
