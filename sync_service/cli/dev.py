"""`dev`: run the service and its database on one machine, without any setting."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace

from sync_service.cli.arguments import Commands
from sync_service.cli.migrate import migrate_database
from sync_service.cli.program import find_program
from sync_service.cli.serve import check_mapping
from sync_service.dev.embedded import run_embedded_postgres
from sync_service.dev.issuer import ISSUER, ensure_public_key, has_key_of_clerk
from sync_service.dev.output import stop_when_output_closes
from sync_service.dev.state import DATA_FOLDER, OPS_TOKEN_FILE, SECRET_FILE, ensure_ops_token, ensure_signing_secret
from sync_service.dsn import Dsn, parse_dsn
from sync_service.logs import configure_logging
from sync_service.settings import Settings, read_settings
from sync_service.web.listener import bind_sockets
from sync_service.web.metrics.shared_folder import forget_shared_folder

# An address that means all interfaces is no destination on every system.
DESTINATIONS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared only


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("dev", help="run the service and a database on this machine; needs no settings")
    parser.set_defaults(run=run)


def run(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Serve until a signal stops the service, then stop the embedded database."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until uvicorn has its own handler
    settings = read_settings(environ)
    configure_logging(level=settings.log_level, form=settings.log_format)
    host = settings.host or "127.0.0.1"
    sockets = bind_sockets(host, settings.port)
    own_secret = None if settings.clerk_webhook_signing_secrets else ensure_signing_secret()
    own_token = None if settings.sync_ops_token else ensure_ops_token()
    with _open_database(settings) as dsn:
        with_database = replace(settings, database=dsn)
        asyncio.run(migrate_database(with_database))
        asyncio.run(check_mapping(with_database))
        # The serving process reads the environment. Each reload starts a new one.
        if settings.database is None:
            os.environ["DATABASE_URL"] = dsn.url
        if own_secret:
            os.environ["CLERK_WEBHOOK_SIGNING_SECRET"] = own_secret
        if own_token:
            os.environ["SYNC_OPS_TOKEN"] = own_token
        if not has_key_of_clerk(settings):
            os.environ |= {"CLERK_JWT_KEY": ensure_public_key(), "CLERK_ISSUER": ISSUER}
        print(_format_welcome(settings, host, own_secret, own_token), flush=True)
        forget_shared_folder()
        from sync_service.web import server  # noqa: PLC0415  slow import, as in serve.py

        stop_when_output_closes()
        return server.serve(settings, sockets=sockets, reload=True)


@contextlib.contextmanager
def _open_database(settings: Settings) -> Iterator[Dsn]:
    if settings.database:
        yield settings.database
        return
    if not DATA_FOLDER.exists():
        print(f"Creating a PostgreSQL database in {DATA_FOLDER} …", file=sys.stderr, flush=True)
    with run_embedded_postgres(DATA_FOLDER) as server:
        yield parse_dsn(server.dsn())


def _format_welcome(settings: Settings, host: str, own_secret: str | None, own_token: str | None) -> str:
    destination = DESTINATIONS.get(host, host)
    host_in_url = f"[{destination}]" if ":" in destination else destination
    url = f"http://{host_in_url}:{settings.port}/webhooks/clerk"
    url_option = "" if settings.port == 8000 and destination == "127.0.0.1" else f" --url {url}"
    secret = f"{own_secret}  (kept in {SECRET_FILE})" if own_secret else "the one in CLERK_WEBHOOK_SIGNING_SECRET"
    token = f"{own_token}  (kept in {OPS_TOKEN_FILE})" if own_token else "the one in SYNC_OPS_TOKEN"
    data = "the database of DATABASE_URL"
    if not settings.database:
        data = f"{DATA_FOLDER.resolve()}  (remove it to start with an empty database)"
    program = find_program()
    login = ""
    if not has_key_of_clerk(settings):
        header = f'"Authorization: Bearer $({program} token user_1)"'
        login = f"\n    Sign in as it:  curl -X POST -H {header} {url.replace('/webhooks/clerk', '/sync')}"
    return f"""
  Webhook URL     {url}
  Signing secret  {secret}
  Data            {data}

  Operators' page {url.replace("/webhooks/clerk", "/ops")}
  Its token       {token}

  In a second terminal, in this folder:
    Send an event:  {program} send user.created --user user_1{url_option}
    Show the user:  {program} users show user_1{login}

  Receive Clerk's events:
    1. Run: clerk webhooks listen --forward-to {url}
    2. It prints a relay URL. Add that URL as an endpoint in Clerk's dashboard, under Configure, Webhooks.
    3. Copy that endpoint's signing secret and start again with it:
       CLERK_WEBHOOK_SIGNING_SECRET=whsec_… {program} dev
"""
