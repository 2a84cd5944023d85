"""Creates the table of a preset where the application has none."""

from sync_service.mapping.table import TableMapping
from sync_service.postgres.migrate import lock_migrations
from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import read_sql


async def create_table(connection: Connection, mapping: TableMapping) -> None:
    """Create the table if the mapping is an unchanged preset; an existing table stays as it is."""
    if mapping.created_by is None:
        return
    async with connection.transaction():
        await lock_migrations(connection)
        await connection.execute(read_sql(__package__, mapping.created_by))
