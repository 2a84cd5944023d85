"""`serve`: run the service in production."""

import argparse
import asyncio
from collections.abc import Mapping

from sync_service.cli.arguments import Commands
from sync_service.cli.database import open_connection
from sync_service.errors import MappingMismatch, SyncError
from sync_service.logs import configure_logging
from sync_service.mapping.table_binding import TableBinding
from sync_service.postgres.migrate import read_schema_state
from sync_service.settings import REQUIRED_TO_SERVE, Settings, read_settings
from sync_service.store.access import BoundConnection
from sync_service.store.carried_rows import read_targets
from sync_service.suggest.lookup import check_default_table
from sync_service.web.listener import bind_sockets
from sync_service.web.metrics.shared_folder import forget_shared_folder

# A slow database must not delay the start for longer.
CHECK_TIMEOUT = 3


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("serve", help="run the service in production, in WEB_CONCURRENCY processes")
    parser.set_defaults(run=run)


def run(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Serve until a signal stops the service."""
    settings = read_settings(environ, required=REQUIRED_TO_SERVE)
    configure_logging(level=settings.log_level, form=settings.log_format)
    host = settings.host or "0.0.0.0"  # noqa: S104  a platform's router connects from outside
    sockets = bind_sockets(host, settings.port)
    asyncio.run(check_mapping(settings))
    forget_shared_folder()
    from sync_service.web import server  # noqa: PLC0415  takes half a second, and other commands do not need it

    return server.serve(settings, sockets=sockets)


async def check_mapping(settings: Settings) -> None:
    """Raise `MappingMismatch` if the mapping cannot work, or if it would create a second users table.

    A database that cannot be reached is no reason to stop: the service waits for it.
    """
    try:
        async with asyncio.timeout(CHECK_TIMEOUT), open_connection(settings) as connection:
            await check_default_table(connection, settings.mapping)
            if (await read_schema_state(connection)).is_ready:
                for related in settings.mapping.related:
                    await TableBinding(related).ensure_bound(connection)
                queries = await TableBinding(settings.mapping).ensure_bound(connection)
                await read_targets(BoundConnection(connection, queries), settings.mapping.carry_over)
    except MappingMismatch:
        raise
    except (SyncError, TimeoutError):
        return
