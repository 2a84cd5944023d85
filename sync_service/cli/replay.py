"""`events replay`: applies events again, by the same door as everything else, or shows what that would change."""

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg
import structlog
from rich.console import Console
from rich.progress import Progress

from sync_service.clerk.events import Event
from sync_service.cli.database import connected
from sync_service.cli.local import settings_or_dev
from sync_service.cli.types import wanted
from sync_service.errors import DatabaseFault, SettingsError
from sync_service.logs import configure_logging
from sync_service.postgres.events import Filter, count_events, events_by_id, pages, preview
from sync_service.postgres.faults import translated
from sync_service.postgres.pool import open_pool
from sync_service.postgres.statements import Statements
from sync_service.settings import Settings
from sync_service.sync.apply import Applier
from sync_service.sync.attempt import attempt

log = structlog.get_logger()

LEFT_UNDONE = frozenset({"parked", "unavailable", "unstorable", "would fail"})


def replay(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Replay, and return 0 when nothing was left undone."""
    chosen = wanted(arguments)
    if bool(arguments.ids) == (chosen != Filter()):
        raise SettingsError(["events replay: name the IDs of events, or a filter such as --status dead, not both"])
    settings = settings_or_dev(environ, "DATABASE_URL")
    configure_logging(level=settings.log_level, form=settings.log_format)
    done, missing = asyncio.run(_replay(settings, arguments, chosen))
    if arguments.json:
        print(json.dumps({"outcomes": done, "missing": missing}))
    else:
        print(", ".join(f"{outcome}: {number}" for outcome, number in sorted(done.items())) or "nothing to replay")
        for message_id in missing:
            print(f"{message_id}: no such event")
    return 1 if missing or LEFT_UNDONE & done.keys() else 0


async def _replay(settings: Settings, arguments: argparse.Namespace, chosen: Filter) -> tuple[Counter[str], list[str]]:
    assert settings.database  # noqa: S101  required above
    done: Counter[str] = Counter()
    seen: set[str | None] = set()
    statements = Statements(settings.mapping)
    async with connected(settings.database) as connection, await open_pool(settings.database) as pool:
        total = len(arguments.ids) or await count_events(connection, chosen)
        applier = Applier(pool, statements, source="replay", max_attempts=settings.sync_max_attempts)
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("replaying", total=total)
            async for page in _pages(connection, arguments.ids, chosen):
                for event in page:
                    seen.add(event.id)
                    if arguments.dry_run:
                        done[await _show(connection, statements, event, as_json=arguments.json)] += 1
                if not arguments.dry_run:
                    done += Counter(outcome.outcome for _, outcome in await attempt(applier, page))
                progress.advance(bar, len(page))
                if not console.is_terminal and total > len(page):
                    log.info("replaying", done=done.total(), of=total)
    return done, [message_id for message_id in arguments.ids if message_id not in seen]


async def _pages(connection: asyncpg.Connection, ids: list[str], chosen: Filter) -> AsyncIterator[list[Event]]:
    if ids:
        yield await events_by_id(connection, ids)
        return
    async for page in pages(connection, chosen):
        yield page


async def _show(connection: asyncpg.Connection, statements: Statements, event: Event, *, as_json: bool) -> str:
    """Print what a replay would change in the row; return in a word what it would come to."""
    try:
        with translated():
            before, after = await preview(connection, statements, event)
    except DatabaseFault as fault:
        outcome, changes = "would fail", {"reason": [None, fault.reason]}
    else:
        changes = _difference(before, after)
        outcome = "would fail" if event.fault else "would change" if changes else "no change"
    if as_json:
        print(json.dumps({"id": event.id, "clerk_id": event.clerk_id, "outcome": outcome, "changes": changes}))
    elif changes:
        print(f"{event.id}  {event.clerk_id}  {outcome}")
        for column, (old, new) in changes.items():
            print(f"    {column}: {json.dumps(old, ensure_ascii=False)} → {json.dumps(new, ensure_ascii=False)}")
    return outcome


def _difference(before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, list[Any]]:
    old, new = before or {}, after or {}
    return {name: [old.get(name), new.get(name)] for name in {**old, **new} if old.get(name) != new.get(name)}
