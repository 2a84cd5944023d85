"""`mapping suggest`: reads the users table and prints a `sync.toml` for it; nothing is written."""

import argparse
import asyncio
import os
from collections.abc import Mapping

from sync_service.cli.database import connected
from sync_service.cli.local import database_or_dev
from sync_service.cli.types import Commands
from sync_service.doctor.introspection import has_only_foreign_ids, read_tables
from sync_service.dsn import Dsn
from sync_service.errors import SettingsError, SyncError
from sync_service.mapping.file import read_mapping
from sync_service.mapping.suggest import id_column, likeliest, suggested
from sync_service.postgres.catalogue import read_table


def add_to(commands: Commands) -> None:
    """Add the command."""
    mapping = commands.add_parser("mapping", help="the table mapping").add_subparsers(metavar="COMMAND", required=True)
    parser = mapping.add_parser("suggest", help="print a sync.toml for the table that is there")
    parser.add_argument("--table", metavar="TABLE", help="public.users; a guess if left out")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the suggestion."""
    named = _named(arguments.table) if arguments.table else None
    # A mapping that is there already, right or wrong, has no part in it.
    given = {name: text for name, text in environ.items() if name != "SYNC_CONFIG_FILE"} | {"SYNC_CONFIG": os.devnull}
    print(asyncio.run(_suggest(database_or_dev(given), named)), end="")
    return 0


def _named(table: str) -> tuple[str, str]:
    try:
        mapping = read_mapping(f"[users]\ntable = '''{table}'''\n")
    except SettingsError:
        raise SettingsError(['--table: write public.users, or "my schema"."my.table"']) from None
    return mapping.schema, mapping.table


async def _suggest(dsn: Dsn, named: tuple[str, str] | None) -> str:
    async with connected(dsn) as connection:
        name = named or likeliest(await read_tables(connection))
        table = await read_table(connection, *name) if name else None
        if table is None:
            raise SyncError("There is no such table." if named else "No table looks like users: name it with --table.")
        clerk_id = id_column(table)
        if clerk_id and (clerk_id,) == table.primary_key and await has_only_foreign_ids(connection, table, clerk_id):
            clerk_id = None
        return suggested(table, clerk_id)
