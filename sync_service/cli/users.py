"""`users show`: print a user's row, version and history. `users refresh`, `users restore`: correct the row."""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sync_service.big_integers import quote_big_integers
from sync_service.cli.arguments import Commands, add_json_option, format_error, format_json, format_time, parse_id
from sync_service.cli.database import open_connection
from sync_service.dev.state import load_settings
from sync_service.errors import ChangeRejected, SyncError
from sync_service.mapping.queries import build_lookup_queries
from sync_service.mapping.table_binding import TableBinding
from sync_service.settings import Settings
from sync_service.store.access import BoundConnection
from sync_service.store.audit import COMMAND
from sync_service.store.events import EventSummary, decode_json
from sync_service.store.user_history import Identity, UserHistory, get_user_history
from sync_service.terminal import escape_value, print_text


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    parser = commands.add_parser("users", help="show, refresh or restore a user")
    users = parser.add_subparsers(metavar="COMMAND", required=True)
    show_parser = users.add_parser("show", help="show the row, version and history of one user")
    show_parser.add_argument("clerk_id", metavar="CLERK_ID", type=parse_id)
    show_parser.set_defaults(run=_run_show)
    refresh_parser = users.add_parser("refresh", help="ask Clerk about a user, and write the row as Clerk has it")
    refresh_parser.add_argument("clerk_id", metavar="CLERK_ID", type=parse_id)
    refresh_parser.set_defaults(run=_run_refresh)
    restore_parser = users.add_parser("restore", help="undo a deletion, as long as the row exists")
    restore_parser.add_argument("clerk_id", metavar="CLERK_ID", type=parse_id)
    restore_parser.set_defaults(run=_run_restore)
    add_json_option(show_parser, refresh_parser, restore_parser)


def _run_show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = load_settings(environ, "DATABASE_URL")
    user = asyncio.run(_find_user(settings, arguments.clerk_id))
    print_text(quote_big_integers(format_json(user)) if arguments.json else _format_user(user))
    return 0 if user.is_known else 1


async def _find_user(settings: Settings, clerk_id: str) -> UserHistory:
    async with open_connection(settings) as connection:
        return await get_user_history(connection, build_lookup_queries(settings.mapping), clerk_id)


def _run_refresh(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from sync_service.cli.refresh import refresh  # noqa: PLC0415  slow import: the HTTP client

    return refresh(arguments, environ)


def _run_restore(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    is_restored = asyncio.run(_restore(load_settings(environ, "DATABASE_URL"), arguments.clerk_id))
    if arguments.json:
        print(json.dumps({"clerk_id": arguments.clerk_id, "restored": is_restored}))
    elif is_restored:
        print(f"{arguments.clerk_id}: the deletion is undone; the row stays, and later deletions are ignored")
    if is_restored:
        return 0
    print(f"{arguments.clerk_id}: no deletion to undo: the user is not deleted, or the row is gone", file=sys.stderr)
    return 1


async def _restore(settings: Settings, clerk_id: str) -> bool:
    from sync_service.sync.user_actions import restore_deleted_user  # noqa: PLC0415  slow import: the HTTP client

    async with open_connection(settings) as connection:
        queries = await TableBinding(settings.mapping).ensure_bound(connection)
        try:
            return await restore_deleted_user(BoundConnection(connection, queries), clerk_id, COMMAND)
        except ChangeRejected as error:
            raise SyncError(
                f"{clerk_id}: a trigger or a rule of the table {error.table} keeps the mark of the deletion."
                " Nothing is changed."
            ) from error


def _format_user(user: UserHistory) -> str:
    row: dict[str, Any] = decode_json(bytes(user.row).decode()) or {}
    width = max(map(len, row), default=0)
    lines = [f"{user.clerk_id}: {_format_identity(user.identity)}", ""]
    lines += [f"  {column:{width}}  {_format_value(value)}" for column, value in row.items()] or ["  no row"]
    lines += ["", "  Events, newest first:"]
    lines += [_format_event(event) for event in user.events] or ["  none"]
    return "\n".join(lines)


def _format_identity(identity: Identity | None) -> str:
    if identity is None:
        return "unknown to the service"
    if identity.restored_at:
        return f"the deletion was undone {format_time(identity.restored_at)}; later deletions are ignored"
    if identity.deleted_at:
        return f"deleted {format_time(identity.deleted_at)}; the deletion is final"
    version = datetime.fromtimestamp((identity.version or 0) / 1000, UTC)
    return f"as of {format_time(version)} (version {identity.version}), created by {identity.created_by}"


def _format_event(event: EventSummary) -> str:
    fields = [format_time(event.received_at), f"{event.type:14}", f"{event.status:8}", event.id]
    return escape_value("  " + "  ".join([*fields, *format_error(event)]))


def _format_value(value: object) -> str:
    if value is None:
        return "-"
    return escape_value(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
