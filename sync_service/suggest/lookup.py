"""Finds the app's users table where the default table is missing, so that it does not become a second one."""

from sync_service.errors import MappingMismatch
from sync_service.mapping.introspection import read_table
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table import TableMapping
from sync_service.postgres.pool import Connection
from sync_service.suggest.overview_reader import read_overview
from sync_service.suggest.tables import list_candidates


async def find_other_users_table(connection: Connection, mapping: TableMapping) -> str | None:
    """Return the table that looks like the users table, if the mapping is the default and its table is missing.

    Raises errors of asyncpg.
    """
    if mapping.created_by != DEFAULT.created_by or await read_table(connection, mapping.schema, mapping.table):
        return None
    tables = [candidate.table for candidate in list_candidates(await read_overview(connection))]
    # Another process may have created the default table since it was missing.
    others = [table for table in tables if (table.schema, table.name) != (mapping.schema, mapping.table)]
    return others[0].display_name if others else None


async def check_default_table(connection: Connection, mapping: TableMapping) -> None:
    """Raise `MappingMismatch` if the default table is missing and another one looks like the users table."""
    if other := await find_other_users_table(connection, mapping):
        problem = f"{mapping.name}: there is no such table, and {other} looks like the users table of your app"
        raise MappingMismatch([f"{problem}; run `sync-service mapping suggest > sync.toml` to use {other}"])
