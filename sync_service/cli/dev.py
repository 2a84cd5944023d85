"""`dev`: all of it on one machine with nothing set, and what to try next."""

import argparse
import asyncio
import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace

from sync_service.cli.local import DATA, SECRET, signing_secret
from sync_service.cli.migrate import bring_up_to_date
from sync_service.cli.serve import refuse_taken, refuse_unfit
from sync_service.cli.types import Commands
from sync_service.dsn import Dsn, clean_dsn
from sync_service.logs import configure_logging
from sync_service.postgres.embedded import embedded_postgres
from sync_service.settings import Settings, read_settings


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("dev", help="everything on one machine, with nothing set")
    parser.set_defaults(run=run)


def run(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Serve until told to stop, then stop the database too."""
    settings = read_settings(environ)
    configure_logging(level=settings.log_level, form=settings.log_format)
    host = settings.host or "127.0.0.1"
    refuse_taken(host, settings.port)
    own_secret = None if settings.clerk_webhook_signing_secrets else signing_secret()
    with _database(settings) as dsn:
        here = replace(settings, database=dsn)
        asyncio.run(bring_up_to_date(here))
        asyncio.run(refuse_unfit(here))
        # What the served processes read; they are made anew at each reload.
        if settings.database is None:
            os.environ["DATABASE_URL"] = dsn.url
        if own_secret:
            os.environ["CLERK_WEBHOOK_SIGNING_SECRET"] = own_secret
        print(_welcome(settings, host, own_secret), flush=True)
        from sync_service.web import server  # noqa: PLC0415  as in serve

        return server.serve(settings, host=host, reload=True)


@contextlib.contextmanager
def _database(settings: Settings) -> Iterator[Dsn]:
    if settings.database:
        yield settings.database
    else:
        with embedded_postgres(DATA) as server:
            yield clean_dsn(server.dsn())


def _welcome(settings: Settings, host: str, own_secret: str | None) -> str:
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/webhooks/clerk"
    url = "" if settings.port == 8000 and host == "127.0.0.1" else f" --url {address}"
    secret = f"{own_secret}  (kept in {SECRET})" if own_secret else "the one in CLERK_WEBHOOK_SIGNING_SECRET"
    data = "the database of DATABASE_URL" if settings.database else f"{DATA.resolve()}  (remove it to start afresh)"
    return f"""
  Webhooks        {address}
  Signing secret  {secret}
  Data            {data}

  Send an event:        sync-service send user.created --user user_1{url}
  Look at the user:     sync-service users show user_1
  Real events of Clerk: clerk webhooks listen --forward-to {address}
                        (start this with CLERK_WEBHOOK_SIGNING_SECRET set to the secret that it prints)
"""
