"""`migrate`: bring the schema up to date, or report whether it is."""

import argparse
import asyncio
import json
from collections.abc import Mapping

from sync_service.cli.arguments import Commands, add_json_option
from sync_service.cli.database import open_connection
from sync_service.cli.lock_waits import report_lock_waits
from sync_service.dev.state import load_settings
from sync_service.errors import SyncError
from sync_service.mapping.creation import create_table
from sync_service.postgres.migrate import SchemaState, migrate, read_schema_state
from sync_service.postgres.pool import Connection
from sync_service.settings import Settings
from sync_service.suggest.lookup import find_other_users_table


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("migrate", help="bring the schema up to date; safe to run several times at once")
    parser.add_argument("--check", action="store_true", help="only report; exit status 1 if it is not up to date")
    parser.add_argument(
        "--create-table",
        action="store_true",
        help="create the default table public.users even if another table looks like the users table",
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Migrate, or with `--check` only report the state of the schema."""
    settings = load_settings(environ, "DATABASE_URL")
    migration = migrate_database(settings, check_only=arguments.check, creates_second=arguments.create_table)
    ran, state = asyncio.run(migration)
    if arguments.json:
        print(json.dumps({"ran": ran, "version": state.version, "needed": state.needed, "ready": state.is_ready}))
    else:
        for name in ran:
            print(f"Ran {name}.")
        print(state)
    return 0 if state.is_ready else 1


async def migrate_database(
    settings: Settings, *, check_only: bool = False, creates_second: bool = False
) -> tuple[list[str], SchemaState]:
    """Return the names of the migrations that ran, and the state of the schema.

    `creates_second`: the default table is created although another table looks like the users table. Raises
    `SyncError`.
    """
    async with open_connection(settings) as connection, report_lock_waits(settings, connection):
        ran = []
        if not check_only:
            ran = [f"{migration.version:04}_{migration.name}" for migration in await migrate(connection)]
            if not creates_second:
                await _refuse_second_table(connection, settings)
            await create_table(connection, settings.mapping)
        return ran, await read_schema_state(connection)


async def _refuse_second_table(connection: Connection, settings: Settings) -> None:
    """Raise `SyncError` instead of creating the default table beside the app's own users table."""
    if other := await find_other_users_table(connection, settings.mapping):
        raise SyncError(
            f"The schema clerk_sync is up to date, but {settings.mapping.name} was not created:"
            f" {other} looks like the users table of your app. To use {other}, run `sync-service mapping suggest >"
            f" sync.toml`. To create {settings.mapping.name} all the same, run `sync-service migrate --create-table`."
        )
