"""`users show`: one user's row, version and history. `users restore`: a deletion taken back."""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sync_service.cli.database import connected
from sync_service.cli.local import settings_or_dev
from sync_service.cli.types import Commands, told_fault, told_time
from sync_service.postgres.inbox import take_back
from sync_service.postgres.lookup import user_history
from sync_service.postgres.statements import Statements
from sync_service.settings import Settings


def add_to(commands: Commands) -> None:
    """Add the command."""
    users = commands.add_parser("users", help="look at users").add_subparsers(metavar="COMMAND", required=True)
    parser = users.add_parser("show", help="row, version and history of one user")
    parser.add_argument("clerk_id", metavar="CLERK_ID")
    parser.add_argument("--json", action="store_true", help="print for programs")
    parser.set_defaults(run=run)
    restored = users.add_parser("restore", help="take a deletion back, while the row is still there")
    restored.add_argument("clerk_id", metavar="CLERK_ID")
    restored.set_defaults(run=_restore)


def _restore(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if asyncio.run(_take_back(settings_or_dev(environ, "DATABASE_URL"), arguments.clerk_id)):
        print(f"{arguments.clerk_id}: the deletion is taken back, and will not be repeated; the row stands")
        return 0
    print(f"{arguments.clerk_id}: not deleted, or its row is gone: there is nothing to take back", file=sys.stderr)
    return 1


async def _take_back(settings: Settings, clerk_id: str) -> bool:
    assert settings.database  # noqa: S101  required
    async with connected(settings.database) as connection:
        return await take_back(connection, Statements(settings.mapping), clerk_id)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Show the user, and return 1 when nothing at all is known of that ID."""
    settings = settings_or_dev(environ, "DATABASE_URL")
    found = asyncio.run(_find(settings, arguments.clerk_id))
    print(json.dumps(found, default=datetime.isoformat, indent=2) if arguments.json else _told(found))
    return 0 if found["row"] or found["identity"] or found["events"] else 1


async def _find(settings: Settings, clerk_id: str) -> dict[str, Any]:
    assert settings.database  # noqa: S101  required
    async with connected(settings.database) as connection:
        return await user_history(connection, Statements(settings.mapping), clerk_id)


def _told(found: dict[str, Any]) -> str:
    identity = found["identity"]
    if identity is None:
        known = "nothing is known of this ID"
    elif identity["kept_at"]:
        known = f"the deletion was taken back {told_time(identity['kept_at'])}; the row is the app's"
    elif identity["deleted_at"]:
        known = f"deleted {told_time(identity['deleted_at'])}; nothing brings it back"
    else:
        version = datetime.fromtimestamp(identity["version"] / 1000, UTC)
        known = f"as of {told_time(version)} (version {identity['version']}), first told of by {identity['created_by']}"
    row = found["row"] or {}
    width = max(map(len, row), default=0)
    lines = [f"{found['clerk_id']}: {known}", ""]
    lines += [f"  {column:{width}}  {_value(value)}" for column, value in row.items()] or ["  no row"]
    lines += ["", "  Events, newest first:"]
    lines += [_event(event) for event in found["events"]] or ["  none"]
    return "\n".join(lines)


def _event(event: dict[str, Any]) -> str:
    words = [told_time(event["received_at"]), f"{event['type']:14}", f"{event['status']:8}", event["id"]]
    return "  " + "  ".join([*words, *told_fault(event)])


def _value(value: object) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
