"""`migrate`: brings the schema up to date, or tells whether it is."""

import argparse
import asyncio
import json
from collections.abc import Mapping

from sync_service.cli.database import connected
from sync_service.cli.local import settings_or_dev
from sync_service.cli.types import Commands
from sync_service.postgres.schema import SchemaState, create_users, migrate, schema_state
from sync_service.settings import Settings


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("migrate", help="bring the schema up to date; any number may run at once")
    parser.add_argument("--check", action="store_true", help="only tell; exit status 1 if it is not up to date")
    parser.add_argument("--json", action="store_true", help="print for programs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Migrate, or with `--check` tell."""
    ran, state = asyncio.run(bring_up_to_date(settings_or_dev(environ, "DATABASE_URL"), only_check=arguments.check))
    if arguments.json:
        print(json.dumps({"ran": ran, "version": state.version, "needed": state.needed, "ready": state.ready}))
    else:
        for name in ran:
            print(f"Ran {name}.")
        print(state)
    return 0 if state.ready else 1


async def bring_up_to_date(settings: Settings, *, only_check: bool = False) -> tuple[list[str], SchemaState]:
    """Return what ran and how the schema stands now. Raises `SyncError`."""
    assert settings.database  # noqa: S101  required
    async with connected(settings.database) as connection:
        ran = []
        if not only_check:
            ran = [f"{migration.version:04}_{migration.name}" for migration in await migrate(connection)]
            await create_users(connection, settings.mapping)
        return ran, await schema_state(connection)
