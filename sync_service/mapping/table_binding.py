"""Holds the binding of a mapping to its table: made before the first write, and again after the table has changed."""

import asyncio

import structlog

from sync_service.errors import DatabaseUnavailable, MappingMismatch
from sync_service.mapping.binding import BoundMapping, bind
from sync_service.mapping.introspection import read_table
from sync_service.mapping.queries import Queries, build_lookup_queries, build_queries
from sync_service.mapping.table import TableMapping
from sync_service.mapping.validation import partial_issues
from sync_service.postgres.migrate import read_schema_state
from sync_service.postgres.pool import Connection

log = structlog.get_logger()

SCHEMA_NOT_READY = "schema_not_ready"

# Seconds to wait for the read of another task, whose connection may be silent. After it each task reads for itself.
SHARED_READ_TIMEOUT = 1


class TableBinding:
    """The queries of one mapping. `lookups` are available at once, the others after `ensure_bound`."""

    def __init__(self, mapping: TableMapping) -> None:
        self.mapping = mapping
        self.lookups = build_lookup_queries(mapping)
        self._queries: Queries | None = None
        self._changes = 0
        self._read: asyncio.Future[None] | None = None

    async def ensure_bound(self, connection: Connection) -> Queries:
        """Return the queries; read the table first if that is necessary. Concurrent calls share one read.

        Raises `MappingMismatch`, which names the obstacles, `DatabaseUnavailable` if this code does not fit the schema
        of the service, and the errors of asyncpg.
        """
        if self._queries is None and self._read:
            await asyncio.wait([self._read], timeout=SHARED_READ_TIMEOUT)
        if self._queries:
            return self._queries
        read = self._read = asyncio.get_running_loop().create_future()
        try:
            return await self._bind(connection)
        finally:
            read.set_result(None)
            if self._read is read:
                self._read = None

    async def _bind(self, connection: Connection) -> Queries:
        changes = self._changes
        # A statement of other code on this schema might park an event. Without it the sender keeps the event.
        if not (await read_schema_state(connection)).is_ready:
            raise DatabaseUnavailable(SCHEMA_NOT_READY)
        table = await read_table(connection, self.mapping.schema, self.mapping.table)
        bound = bind(self.mapping, table)
        if not isinstance(bound, BoundMapping):
            raise MappingMismatch(bound)
        for issue in partial_issues(self.mapping, bound.table):
            log.warning("mapping_warning", warning=str(issue))
        queries = build_queries(self.mapping, bound)
        # A concurrent statement may have found that the table has changed after it was read here.
        if changes == self._changes:
            self._queries = queries
        return queries

    def invalidate(self) -> None:
        """Read the table again before the next write, because it has changed."""
        self._queries = None
        self._changes += 1
