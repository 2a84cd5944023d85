"""`events list`, `show`, `replay`: the operators' view of the inbox."""

import argparse
import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sync_service.cli.database import connected
from sync_service.cli.local import database_or_dev
from sync_service.cli.replay import replay
from sync_service.cli.types import Commands, moment, told_fault, told_time, wanted
from sync_service.dsn import Dsn
from sync_service.postgres.events import list_events, show_event

STATUSES = ("applied", "stale", "ignored", "failed", "dead")


def add_to(commands: Commands) -> None:
    """Add the commands."""
    events = commands.add_parser("events", help="look at events, and replay them").add_subparsers(
        metavar="COMMAND", required=True
    )
    listed = events.add_parser("list", help="the newest first")
    _add_filter(listed)
    listed.add_argument("--limit", type=int, default=50, metavar="N", help="how many (50)")
    listed.set_defaults(run=_run_list)
    shown = events.add_parser("show", help="one event with its failures and payload")
    shown.add_argument("id", metavar="ID", help="the svix-id")
    shown.set_defaults(run=_run_show)
    replayed = events.add_parser("replay", help="apply events again: by ID, or all that a filter names")
    replayed.add_argument("ids", metavar="ID", nargs="*", help="svix-ids")
    _add_filter(replayed)
    replayed.add_argument("--dry-run", action="store_true", help="only print what would change in the row")
    replayed.set_defaults(run=replay)
    for parser in (listed, shown, replayed):
        parser.add_argument("--json", action="store_true", help="print for programs")


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--status", choices=STATUSES)
    parser.add_argument("--type", help="user.created, …")
    parser.add_argument("--user", metavar="ID", help="a Clerk ID")
    parser.add_argument("--since", type=moment, metavar="TIME", help="2026-01-31T12:00, or 2h for two hours ago")
    parser.add_argument("--until", type=moment, metavar="TIME")


def _run_list(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    found = asyncio.run(_list(database_or_dev(environ), arguments))
    if arguments.json:
        print(json.dumps({"events": found}, default=datetime.isoformat, indent=2))
    else:
        for event in found:
            words = [told_time(event["received_at"]), f"{event['status']:8}", f"{event['type']:14}", event["id"]]
            words += [event["clerk_id"] or "-", *told_fault(event)]
            print("  ".join(words))
    return 0


async def _list(dsn: Dsn, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    async with connected(dsn) as connection:
        return await list_events(connection, wanted(arguments), arguments.limit)


def _run_show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    found = asyncio.run(_show(database_or_dev(environ), arguments.id))
    print(json.dumps(found, default=datetime.isoformat, indent=2, ensure_ascii=False))
    return 0 if found else 1


async def _show(dsn: Dsn, message_id: str) -> dict[str, Any] | None:
    async with connected(dsn) as connection:
        return await show_event(connection, message_id)
