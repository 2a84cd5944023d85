"""`events list`, `show`, `replay`: the operators' view of the stored events."""

import argparse
import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from msgspec.structs import asdict

from sync_service.cli.arguments import (
    Commands,
    add_json_option,
    filter_from,
    format_error,
    format_json,
    format_remedy,
    format_time,
    parse_count,
    parse_id,
    parse_text,
    parse_time,
)
from sync_service.cli.database import open_connection
from sync_service.cli.replay import replay
from sync_service.dev.state import load_settings
from sync_service.settings import Settings
from sync_service.store.event_filter import STATUSES, Filter
from sync_service.store.events import EventDetail, EventSummary, get_event, list_events
from sync_service.terminal import escape_value, print_text

# Not applied: the service retries the first, an operator the second.
WAITING = ("failed", "dead")


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    events = commands.add_parser("events", help="list, show and replay events").add_subparsers(
        metavar="COMMAND", required=True
    )
    list_parser = events.add_parser("list", help="list events, the newest first")
    _add_filter(list_parser)
    list_parser.add_argument("--limit", type=parse_count, default=50, metavar="N", help="maximum number of events (50)")
    list_parser.set_defaults(run=_run_list)
    show_parser = events.add_parser("show", help="show one event with its failures and payload")
    show_parser.add_argument("id", metavar="ID", type=parse_id, help="the svix-id")
    show_parser.set_defaults(run=_run_show)
    replay_parser = events.add_parser("replay", help="apply events again, by ID or by filter")
    replay_parser.add_argument("ids", metavar="ID", nargs="*", type=parse_id, help="svix-ids")
    _add_filter(replay_parser)
    replay_parser.add_argument("--dry-run", action="store_true", help="only print how each row would change")
    replay_parser.set_defaults(run=replay)
    add_json_option(list_parser, show_parser, replay_parser)


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--status", choices=STATUSES)
    parser.add_argument("--type", type=parse_text, help="user.created, …")
    parser.add_argument("--user", metavar="ID", type=parse_id, help="a Clerk ID")
    parser.add_argument(
        "--since", type=parse_time, metavar="TIME", help="received at or after: 2026-01-31T12:00, or 2h for 2 hours ago"
    )
    parser.add_argument("--until", type=parse_time, metavar="TIME", help="received before this time")


def _run_list(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    events = asyncio.run(_list(load_settings(environ, "DATABASE_URL"), arguments))
    if arguments.json:
        print(format_json({"events": events}))
    else:
        for event in events:
            fields = [format_time(event.received_at), f"{event.status:8}", f"{event.type:14}", event.id]
            fields += [event.clerk_id or "-", *format_error(event)]
            print(escape_value("  ".join(fields)))
        for reason in sorted({event.reason for event in events if event.reason and event.status in WAITING}):
            print(f"{reason}: {format_remedy(reason)}", file=sys.stderr)
        if not events:
            stored = (
                "no event is stored" if filter_from(arguments) == Filter() else "no stored event has these properties"
            )
            print(stored, file=sys.stderr)
    return 0


async def _list(settings: Settings, arguments: argparse.Namespace) -> list[EventSummary]:
    async with open_connection(settings) as connection:
        return await list_events(connection, filter_from(arguments), arguments.limit)


def _run_show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    event = asyncio.run(_show(load_settings(environ, "DATABASE_URL"), arguments.id))
    if event or arguments.json:
        print_text(format_json(_add_remedy(event) if event else None))
    if event is None:
        message = f"{arguments.id}: no such event; `sync-service events list` shows the newest ones"
        print(escape_value(message), file=sys.stderr)
    return 0 if event else 1


async def _show(settings: Settings, message_id: str) -> EventDetail | None:
    async with open_connection(settings) as connection:
        return await get_event(connection, message_id)


def _add_remedy(event: EventDetail) -> dict[str, Any]:
    return asdict(event) | ({"remedy": format_remedy(event.reason)} if event.reason else {})
