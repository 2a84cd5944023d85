"""`mapping suggest`: read the users table and print a `sync.toml` for it. The command writes no file and no row."""

import argparse
import asyncio
import json
import tomllib
from collections.abc import Mapping

from sync_service.cli.arguments import Commands, add_json_option, parse_text
from sync_service.cli.database import open_connection
from sync_service.dev.state import load_settings
from sync_service.doctor.introspection import has_only_foreign_ids, read_tables
from sync_service.doctor.suggest import choose_users_table, find_id_column, suggest_mapping
from sync_service.errors import SettingsError, SyncError
from sync_service.mapping.introspection import read_table
from sync_service.mapping.toml import parse_mapping
from sync_service.settings import Settings


def add_parser(commands: Commands) -> None:
    """Add the command."""
    mapping = commands.add_parser("mapping", help="suggest a table mapping").add_subparsers(
        metavar="COMMAND", required=True
    )
    parser = mapping.add_parser("suggest", help="print a sync.toml for the existing table")
    parser.add_argument(
        "--table", metavar="TABLE", type=parse_text, help="the table, such as public.users; default: the likeliest one"
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the suggested mapping."""
    name = _parse_table(arguments.table) if arguments.table else None
    # An existing mapping, valid or not, must not influence the suggestion. With `> sync.toml` it is empty by now.
    settings = load_settings(environ, "DATABASE_URL", with_mapping=False)
    suggestion = asyncio.run(_suggest(settings, name))
    print(f"{json.dumps(tomllib.loads(suggestion), indent=2)}\n" if arguments.json else suggestion, end="")
    return 0


def _parse_table(table: str) -> tuple[str, str]:
    try:
        mapping = parse_mapping(f"[users]\ntable = '''{table}'''\n")
    except SettingsError:
        raise SettingsError(['--table: write public.users, or "my schema"."my.table"']) from None
    return mapping.schema, mapping.table


async def _suggest(settings: Settings, given_name: tuple[str, str] | None) -> str:
    async with open_connection(settings) as connection:
        name = given_name or choose_users_table(await read_tables(connection))
        table = await read_table(connection, *name) if name else None
        if table is None:
            hint = "No table looks like a table of users. Name it with --table."
            raise SyncError(f"The table {'.'.join(given_name)} does not exist." if given_name else hint)
        clerk_id = find_id_column(table)
        if clerk_id and (clerk_id,) == table.primary_key and await has_only_foreign_ids(connection, table, clerk_id):
            clerk_id = None
        return suggest_mapping(table, clerk_id)
