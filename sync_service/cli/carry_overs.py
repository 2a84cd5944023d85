"""`carry-overs list`, `carry-overs show`, `carry-overs roll-back`: data from before sign-up."""

import argparse
import asyncio
import sys
from collections.abc import Mapping

import msgspec

from sync_service.big_integers import quote_big_integers
from sync_service.cli.arguments import Commands, add_json_option, format_json, format_time, parse_count, parse_id
from sync_service.cli.database import open_connection
from sync_service.dev.state import load_settings
from sync_service.errors import SyncError
from sync_service.settings import Settings
from sync_service.store.audit import COMMAND
from sync_service.store.carried_rows import NO_PRIMARY_KEY, ROW_NOT_REMOVED, RowRefusedByTable
from sync_service.store.carry_overs import (
    STATUSES,
    CarryOverRecord,
    CarryOverSummary,
    RefusedRow,
    get_carry_over,
    list_carry_overs,
)
from sync_service.sync.carry_over_removal import Removal, roll_back_carry_over
from sync_service.terminal import escape_value

_HINTS = {
    NO_PRIMARY_KEY: "the table has no primary key by which the row could be found, so delete the rows yourself",
    ROW_NOT_REMOVED: "a trigger of the table keeps the row",
    "foreign_key_violation": "rows of your app refer to the row; delete them first",
}


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    group = commands.add_parser("carry-overs", help="show or remove data from before sign-up").add_subparsers(
        metavar="COMMAND", required=True
    )
    list_parser = group.add_parser("list", help="list carry-overs, the newest first")
    list_parser.add_argument("--status", choices=STATUSES)
    list_parser.add_argument("--user", type=parse_id, metavar="ID", help="the user's ID in Clerk")
    list_parser.add_argument("--limit", type=parse_count, default=50, metavar="N", help="maximum number (50)")
    list_parser.set_defaults(run=_run_list)
    show_parser = group.add_parser("show", help="print one carry-over with the keys of its rows")
    show_parser.set_defaults(run=_run_show)
    remove_parser = group.add_parser("roll-back", help="remove exactly the rows of a carry-over again")
    remove_parser.set_defaults(run=_run_roll_back)
    for parser in (show_parser, remove_parser):
        parser.add_argument("id", metavar="ID", type=parse_id, help="your app's ID of the visit")
    add_json_option(list_parser, show_parser, remove_parser)


def _run_list(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    found = asyncio.run(_list(load_settings(environ, "DATABASE_URL"), arguments))
    if arguments.json:
        print(format_json({"carry_overs": found}))
        return 0
    for carry_over in found:
        fields = [format_time(carry_over.created_at), f"{carry_over.status:11}", carry_over.id, carry_over.clerk_id]
        fields += [f"rows: {carry_over.rows}", *([carry_over.reason] if carry_over.reason else [])]
        print(escape_value("  ".join(fields)))
    if not found:
        print("no carry-over matches", file=sys.stderr)
    return 0


async def _list(settings: Settings, arguments: argparse.Namespace) -> list[CarryOverSummary]:
    async with open_connection(settings) as connection:
        return await list_carry_overs(connection, arguments.status, arguments.user, arguments.limit)


def _run_show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    record = asyncio.run(_show(load_settings(environ, "DATABASE_URL"), arguments.id))
    if arguments.json:
        print(quote_big_integers(format_json(record)))
        return 0
    print(escape_value(f"{record.id}  {record.status}  {record.clerk_id}"))
    times = {"created": record.created_at, "finished": record.finished_at, "rolled back": record.rolled_back_at}
    for name, time in times.items():
        if time:
            print(f"  {name:14} {format_time(time)}")
    if record.reason:
        print(escape_value(f"  {'reason':14} {record.reason}"))
    for name, value in msgspec.structs.asdict(record.failure or RefusedRow()).items():
        if value is not None:
            print(escape_value(f"  {name:14} {value}"))
    for row in record.keys:
        key = quote_big_integers(bytes(row.key).decode())
        print(escape_value(f"  {'row':14} {row.schema}.{row.table} {'without a key' if key == 'null' else key}"))
    return 0


async def _show(settings: Settings, carry_over_id: str) -> CarryOverRecord:
    async with open_connection(settings) as connection:
        record = await get_carry_over(connection, carry_over_id)
    if record is None:
        raise _report_unknown(carry_over_id)
    return record


def _run_roll_back(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    try:
        removal = asyncio.run(_roll_back(load_settings(environ, "DATABASE_URL"), arguments.id))
    except RowRefusedByTable as error:
        raise SyncError(_explain_refusal(error)) from None
    is_rolled_back = removal.status in {"completed", "rolled_back"}
    if arguments.json:
        status = "rolled_back" if is_rolled_back else removal.status
        print(format_json({"id": arguments.id, "status": status, "removed": removal.removed, "gone": removal.gone}))
    else:
        print(escape_value(f"{arguments.id}: {_describe_removal(removal)}"))
    return 0 if is_rolled_back else 1


async def _roll_back(settings: Settings, carry_over_id: str) -> Removal:
    async with open_connection(settings) as connection:
        removal = await roll_back_carry_over(connection, carry_over_id, COMMAND)
    if removal is None:
        raise _report_unknown(carry_over_id)
    return removal


def _report_unknown(carry_over_id: str) -> SyncError:
    return SyncError(f"{carry_over_id}: no such carry-over; `sync-service carry-overs list` shows them")


def _describe_removal(removal: Removal) -> str:
    if removal.status == "rolled_back":
        return "was rolled back before; no row was removed"
    if removal.status != "completed":
        return f"is {removal.status} and has written no row, so there is none to remove"
    gone = f"; gone already: {removal.gone}" if removal.gone else ""
    return f"rolled back; rows removed: {removal.removed}{gone}"


def _explain_refusal(error: RowRefusedByTable) -> str:
    refused = error.refused
    constraint = f", constraint {refused.constraint}" if refused.constraint else ""
    hint = _HINTS.get(error.reason, "correct the table, and run the command again")
    return f"no row was removed: {refused.table} refuses it ({error.reason}{constraint}); {hint}"
