"""`events replay`: apply stored events again, the same way as webhooks, or print how the rows would change."""

import argparse
import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg
import structlog
from rich.console import Console
from rich.progress import Progress

from sync_service.clerk.events import Event
from sync_service.cli.arguments import filter_from
from sync_service.cli.database import open_connection, require_dsn
from sync_service.dev.state import load_settings
from sync_service.errors import DatabaseError, SettingsError
from sync_service.logs import configure_logging
from sync_service.postgres.pool import open_database
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.store.dry_run import dry_run
from sync_service.store.events import Filter, count_events, get_events, iter_pages
from sync_service.sync.apply import Applier
from sync_service.terminal import escape_value

log = structlog.get_logger()

FAILURES = frozenset({"parked", "unavailable", "would fail"})


def replay(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Replay the events; return 1 if an event failed or does not exist, otherwise 0."""
    event_filter = _read_selection(arguments)
    settings = load_settings(environ, "DATABASE_URL")
    configure_logging(level=settings.log_level, form=settings.log_format)
    outcomes, missing = asyncio.run(_replay(settings, arguments, event_filter))
    if arguments.json:
        print(json.dumps({"outcomes": outcomes, "missing": missing}))
    else:
        counts = [f"{outcome}: {number}" for outcome, number in sorted(outcomes.items())]
        if counts or not missing:
            print(", ".join(counts) or "no events to replay")
        for message_id in missing:
            print(escape_value(f"{message_id}: no such event"))
    return 1 if missing or FAILURES & outcomes.keys() else 0


def _read_selection(arguments: argparse.Namespace) -> Filter:
    """Return the filter. Raises `SettingsError` unless there are IDs or a filter, but not both."""
    event_filter = filter_from(arguments)
    if not arguments.ids and event_filter == Filter():
        raise SettingsError(["events replay: name the IDs of events, or a filter such as --status dead"])
    if arguments.ids and event_filter != Filter():
        raise SettingsError(["events replay: name the IDs of events, or a filter, not both"])
    return event_filter


async def _replay(
    settings: Settings, arguments: argparse.Namespace, event_filter: Filter
) -> tuple[Counter[str], list[str]]:
    """Return the number of events by outcome, and the given IDs that do not exist."""
    outcomes: Counter[str] = Counter()
    seen: set[str | None] = set()
    database = await open_database(require_dsn(settings))
    store = Store(database, settings.mapping)
    applier = Applier(store, source="replay", max_attempts=settings.sync_max_attempts)
    async with contextlib.aclosing(database), open_connection(settings) as connection:
        total = len(arguments.ids) or await count_events(connection, event_filter)
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("replaying", total=total)
            async for page in _iter_pages(connection, arguments.ids, event_filter):
                seen.update(event.id for event in page)
                if arguments.dry_run:
                    outcomes += await _preview_page(store, page, as_json=arguments.json)
                else:
                    outcomes += Counter(outcome.outcome for outcome in await applier.apply_again(page))
                progress.advance(bar, len(page))
                if not console.is_terminal and total > len(page):
                    log.info("replaying", done=outcomes.total(), total=total)
    return outcomes, [message_id for message_id in arguments.ids if message_id not in seen]


async def _iter_pages(
    connection: asyncpg.Connection, ids: list[str], event_filter: Filter
) -> AsyncIterator[list[Event]]:
    if ids:
        yield await get_events(connection, ids)
        return
    async for page in iter_pages(connection, event_filter):
        yield page


async def _preview_page(store: Store, page: list[Event], *, as_json: bool) -> Counter[str]:
    """Print how a replay would change each row; return the number of events by outcome."""
    outcomes: Counter[str] = Counter()
    for event in page:
        outcome, changes, failure = await _preview_event(store, event)
        outcomes[outcome] += 1
        if as_json:
            line = {"id": event.id, "clerk_id": event.clerk_id, "outcome": outcome, "changes": changes}
            print(json.dumps(line | ({"failure": failure} if failure else {})))
        elif changes or failure:
            print(escape_value(f"{event.id}  {event.clerk_id}  {outcome}"))
            for name, value in failure.items():
                print(escape_value(f"    {name}: {value}"))
            for column, (old, new) in changes.items():
                shown = f"{column}: {json.dumps(old, ensure_ascii=False)} → {json.dumps(new, ensure_ascii=False)}"
                print(escape_value(f"    {shown}"))
    return outcomes


async def _preview_event(store: Store, event: Event) -> tuple[str, dict[str, list[Any]], dict[str, str]]:
    """Return the outcome of a replay, the changed columns with their old and new values, and the failure."""
    try:
        async with store.acquire() as bound:
            before, after = await dry_run(bound, store.binding.lookups.row, event)
    except DatabaseError as error:
        names = {"table": error.table, "column": error.column, "constraint": error.constraint}
        return "would fail", {}, {"reason": error.reason} | {key: name for key, name in names.items() if name}
    changes = _compare_rows(before, after)
    if event.error:
        return "would fail", changes, {"reason": event.error}
    return "would change" if changes else "no change", changes, {}


def _compare_rows(before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, list[Any]]:
    old, new = before or {}, after or {}
    return {name: [old.get(name), new.get(name)] for name in {**old, **new} if old.get(name) != new.get(name)}
