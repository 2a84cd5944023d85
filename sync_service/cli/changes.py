"""`changes list`, `changes replay`: deliveries of changes to the app."""

import argparse
import asyncio
import sys
from collections.abc import Mapping

from sync_service.cli.arguments import Commands, add_json_option, format_json, format_time, parse_count, parse_id
from sync_service.cli.database import open_connection
from sync_service.dev.state import load_settings
from sync_service.errors import SettingsError
from sync_service.settings import Settings
from sync_service.store.audit import COMMAND, AuditEntry, add_entry
from sync_service.store.deliveries import (
    DELIVERY_STATUSES,
    Delivery,
    list_deliveries,
    replay_dead_deliveries,
    replay_delivery,
)
from sync_service.store.feed import parse_position
from sync_service.terminal import escape_value

REPLAY = "replay_delivery"


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    changes = commands.add_parser("changes", help="list and repeat deliveries to your app").add_subparsers(
        metavar="COMMAND", required=True
    )
    list_parser = changes.add_parser(
        "list", help="list deliveries, the newest first; without a status those that failed"
    )
    list_parser.add_argument("--status", choices=DELIVERY_STATUSES)
    list_parser.add_argument("--limit", type=parse_count, default=50, metavar="N", help="maximum number (50)")
    list_parser.set_defaults(run=_run_list)
    replay_parser = changes.add_parser("replay", help="make deliveries due again, by ID or all that are dead")
    replay_parser.add_argument("ids", metavar="ID", nargs="*", type=parse_id, help="IDs of changes")
    replay_parser.add_argument("--status", choices=("dead",), help="all dead deliveries")
    replay_parser.set_defaults(run=_run_replay)
    add_json_option(list_parser, replay_parser)


def _run_list(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    found = asyncio.run(_list(load_settings(environ, "DATABASE_URL"), arguments))
    if arguments.json:
        print(format_json({"changes": found}))
        return 0
    for delivery in found:
        fields = [format_time(delivery.at), f"{delivery.status:9}", f"{delivery.type:17}", delivery.id]
        fields += [delivery.clerk_id, f"attempts: {delivery.attempts}", *([delivery.reason] if delivery.reason else [])]
        print(escape_value("  ".join(fields)))
    if not found:
        print("no delivery has failed" if arguments.status is None else "no delivery has this status", file=sys.stderr)
    return 0


async def _list(settings: Settings, arguments: argparse.Namespace) -> list[Delivery]:
    async with open_connection(settings) as connection:
        return await list_deliveries(connection, arguments.status, arguments.limit)


def _run_replay(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if bool(arguments.ids) == bool(arguments.status):
        raise SettingsError(["changes replay: name the IDs of changes, or --status dead, not both"])
    count, missing = asyncio.run(_replay(load_settings(environ, "DATABASE_URL"), arguments))
    if arguments.json:
        print(format_json({"pending": count, "missing": missing}))
    else:
        print(f"due again: {count}; the service sends them")
        for change_id in missing:
            print(escape_value(f"{change_id}: no such delivery; `sync-service changes list` shows those that failed"))
    return 1 if missing else 0


async def _replay(settings: Settings, arguments: argparse.Namespace) -> tuple[int, list[str]]:
    """Return the number of deliveries that are due again, and the IDs that do not exist."""
    missing: list[str] = []
    async with open_connection(settings) as connection, connection.transaction():
        if arguments.status:
            await add_entry(connection, AuditEntry(COMMAND, REPLAY, f"status={arguments.status}"))
            return await replay_dead_deliveries(connection), missing
        for change_id in arguments.ids:
            try:
                is_known = await replay_delivery(connection, parse_position(change_id.removeprefix("chg_")))
            except ValueError:
                is_known = False
            if is_known:
                await add_entry(connection, AuditEntry(COMMAND, REPLAY, change_id))
            else:
                missing.append(change_id)
    return len(arguments.ids) - len(missing), missing
