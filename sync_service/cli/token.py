"""`token`: print a session token of the local issuer that `dev` trusts."""

import argparse
import json
from collections.abc import Mapping

from sync_service.cli.arguments import Commands, add_json_option, parse_id
from sync_service.dev.issuer import ISSUER, PRIVATE_KEY_FILE, has_key_of_clerk, sign_token
from sync_service.dev.state import load_settings
from sync_service.errors import SettingsError, SyncError

KEYS = "CLERK_SECRET_KEY, CLERK_PUBLISHABLE_KEY, CLERK_JWT_KEY, CLERK_JWKS_URL and CLERK_ISSUER"


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("token", help="print a session token that `dev` in this folder accepts, for an hour")
    parser.add_argument("user", metavar="USER", type=parse_id, help="the user's Clerk ID")
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the token."""
    settings = load_settings(environ)
    if has_key_of_clerk(settings):
        raise SettingsError([f"token: keys of Clerk are set, so `dev` accepts only Clerk's tokens; unset {KEYS}"])
    if not PRIVATE_KEY_FILE.exists():
        raise SyncError("No local issuer is in this folder. Start `sync-service dev` here first.")
    token = sign_token(arguments.user, next(iter(settings.clerk_authorized_parties), None))
    print(json.dumps({"token": token, "issuer": ISSUER}) if arguments.json else token)
    return 0
