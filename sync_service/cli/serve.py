"""`serve`: production."""

import argparse
import asyncio
import socket
from collections.abc import Mapping

from sync_service.cli.database import connected
from sync_service.cli.types import Commands
from sync_service.errors import SyncError, Unfit
from sync_service.logs import configure_logging
from sync_service.postgres.schema import schema_state
from sync_service.postgres.statements import Statements
from sync_service.settings import TO_SERVE, Settings, read_settings

# Nobody waits longer for a start because the database is slow to answer.
CHECK_SECONDS = 3


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("serve", help="production: one or WEB_CONCURRENCY processes")
    parser.set_defaults(run=run)


def run(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Serve until told to stop."""
    settings = read_settings(environ, required=TO_SERVE)
    configure_logging(level=settings.log_level, form=settings.log_format)
    host = settings.host or "0.0.0.0"  # noqa: S104  a platform's router comes from outside
    refuse_taken(host, settings.port)
    asyncio.run(refuse_unfit(settings))
    from sync_service.web import server  # noqa: PLC0415  half a second that only what serves should pay

    return server.serve(settings, host=host)


async def refuse_unfit(settings: Settings) -> None:
    """Raise `Unfit` when the mapping cannot work; with the database away or not migrated, nobody can tell yet."""
    assert settings.database  # noqa: S101  required
    try:
        async with asyncio.timeout(CHECK_SECONDS), connected(settings.database) as connection:
            if (await schema_state(connection)).ready:
                await Statements(settings.mapping).held_against(connection)
    except Unfit:
        raise
    except (SyncError, TimeoutError):
        return


def refuse_taken(host: str, port: int) -> None:
    """Raise `SyncError` when nobody can listen there: asked before anything is started, to say it plainly."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SyncError(
                f"Cannot listen on port {port} of {host}: {error.strerror}. Set PORT to another."
            ) from error
