"""`events replay`: apply stored events again, the same way as webhooks, or print how the rows would change."""

import argparse
import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import asyncpg
import structlog
from msgspec import UNSET
from msgspec.structs import asdict
from rich.console import Console
from rich.progress import Progress

from sync_service.clerk.events import Event
from sync_service.cli.arguments import filter_from
from sync_service.cli.database import open_connection, require_dsn
from sync_service.dev.state import load_settings
from sync_service.errors import SettingsError
from sync_service.logs import configure_logging
from sync_service.postgres.pool import open_database
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.store.audit import COMMAND, AuditEntry, add_entry
from sync_service.store.event_filter import Filter
from sync_service.store.events import Failure, decode_json, get_events, iter_pages
from sync_service.sync.apply import Applier
from sync_service.sync.commit import DELETE_GRACE
from sync_service.sync.ordered_work import map_in_order
from sync_service.sync.preview import Preview, preview_event
from sync_service.sync.replay import REPLAY, begin_bulk
from sync_service.terminal import escape_value

log = structlog.get_logger()

FAILURES = frozenset({"parked", "unavailable", "would fail"})

# Seconds. A cascade may take longer in a dry run than in a webhook.
DELETE_TIMEOUT = 60.0


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
    applier = Applier(store, source=REPLAY, max_attempts=settings.sync_max_attempts, delete_timeout=DELETE_TIMEOUT)
    async with contextlib.aclosing(database), open_connection(settings) as connection:
        total, pages = await _begin(connection, store, arguments, event_filter)
        console = Console(stderr=True)
        work = partial(_preview_page, as_json=arguments.json) if arguments.dry_run else _apply_page
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("replaying", total=total)
            # The next page is read while PostgreSQL works on one.
            async for page, counts in map_in_order(pages, partial(work, applier), limit=1):
                seen.update(event.id for event in page)
                outcomes += counts
                progress.advance(bar, len(page))
                if not console.is_terminal and total > len(page):
                    log.info("replaying", done=outcomes.total(), total=total)
    return outcomes, [message_id for message_id in arguments.ids if message_id not in seen]


async def _begin(
    connection: asyncpg.Connection, store: Store, arguments: argparse.Namespace, event_filter: Filter
) -> tuple[int, AsyncIterator[list[Event]]]:
    """Write the audit; return the number of events, and their pages."""
    if arguments.ids:
        events = await get_events(connection, arguments.ids)
        for message_id in {} if arguments.dry_run else {event.id: None for event in events if event.id}:
            await add_entry(connection, AuditEntry(COMMAND, REPLAY, message_id))
        return len(arguments.ids), _iter_single_page(events)
    total, bounded = await begin_bulk(connection, event_filter, None if arguments.dry_run else COMMAND)
    return total, (page async for _, page in iter_pages(store.database, bounded))


async def _iter_single_page(events: list[Event]) -> AsyncIterator[list[Event]]:
    yield events


async def _apply_page(applier: Applier, page: list[Event]) -> Counter[str]:
    return Counter(outcome.outcome for outcome in await applier.apply_again(page))


async def _preview_page(applier: Applier, page: list[Event], *, as_json: bool) -> Counter[str]:
    """Print how a replay would change each row; return the number of events by outcome."""
    outcomes: Counter[str] = Counter()
    for event in page:
        preview, failure = await preview_event(applier, event)
        outcome = _name_outcome(preview)
        outcomes[outcome] += 1
        problem = _describe_failure(preview, failure) if outcome == "would fail" else {}
        _print_preview(event, outcome, _decode_changes(preview), problem, as_json=as_json)
    return outcomes


def _decode_changes(preview: Preview) -> dict[str, list[Any]]:
    return {name: [decode_json(bytes(value).decode()) for value in pair] for name, pair in preview.changes.items()}


def _print_preview(
    event: Event, outcome: str, changes: dict[str, list[Any]], problem: dict[str, str], *, as_json: bool
) -> None:
    if as_json:
        line = {"id": event.id, "clerk_id": event.clerk_id, "outcome": outcome, "changes": changes}
        print(json.dumps(line | ({"failure": problem} if problem else {})))
    elif changes or problem:
        print(escape_value(f"{event.id}  {event.clerk_id or '-'}  {outcome}"))
        for name, value in problem.items():
            print(escape_value(f"    {name}: {value}"))
        for column, (old, new) in changes.items():
            shown = f"{column}: {json.dumps(old, ensure_ascii=False)} → {json.dumps(new, ensure_ascii=False)}"
            print(escape_value(f"    {shown}"))


def _name_outcome(preview: Preview) -> str:
    is_deferred = preview.reason == DELETE_GRACE
    if preview.outcome == "unavailable" or (preview.outcome == "parked" and not is_deferred):
        return "would fail"
    return "would change" if preview.changes else "no change"


def _describe_failure(preview: Preview, failure: Failure | None) -> dict[str, str]:
    """Return the reason, and the names that the failure has."""
    names = asdict(failure) if failure else {}
    given = {name: names[name] for name in ("table", "column", "constraint") if names.get(name) not in {None, UNSET}}
    return {"reason": preview.reason or ""} | given
