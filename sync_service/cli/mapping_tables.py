"""`mapping tables`: list the mapped tables and the tables that refer to them, for a backup."""

import argparse
import asyncio
import json
from collections.abc import Mapping

from sync_service.cli.database import open_connection
from sync_service.dev.state import load_settings
from sync_service.doctor.introspection import read_user_tables
from sync_service.errors import SyncError
from sync_service.mapping.introspection import read_table
from sync_service.postgres.sql import quote_table
from sync_service.settings import Settings
from sync_service.terminal import escape_value


def list_tables(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the quoted name of each table, as pg_dump takes it; or names of schemas and tables as JSON."""
    tables = asyncio.run(_read_tables(load_settings(environ, "DATABASE_URL")))
    if arguments.json:
        print(json.dumps([{"schema": schema, "table": table} for schema, table in tables]))
    else:
        for schema, table in tables:
            print(escape_value(quote_table(schema, table)))
    return 0


async def _read_tables(settings: Settings) -> list[tuple[str, str]]:
    oids = []
    async with open_connection(settings) as connection:
        for mapping in settings.mapping.all:
            table = await read_table(connection, mapping.schema, mapping.table)
            if table is None:
                raise SyncError(f"{mapping.name}: there is no such table. Correct `table` in sync.toml.")
            oids.append(table.oid)
        return await read_user_tables(connection, oids)
