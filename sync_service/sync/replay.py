"""Replays of stored events for an operator: one event, or all that a filter selects."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from msgspec import Struct

from sync_service.clerk.events import Event
from sync_service.postgres.pool import Connection
from sync_service.store.access import Store
from sync_service.store.audit import AuditEntry, add_entry
from sync_service.store.event_filter import Filter
from sync_service.store.events import count_events, iter_pages
from sync_service.sync.apply import Applier
from sync_service.sync.commit import Congestion
from sync_service.sync.ordered_work import map_in_order
from sync_service.sync.outcome import Outcome
from sync_service.sync.preview import preview_page

REPLAY = "replay"

# Connections that one replay uses at a time.
MAX_CONNECTIONS = 2


class BulkResult(Struct, frozen=True):
    """The number of events by outcome. `continue_since` is the place where the time was over, None at the end."""

    outcomes: dict[str, int]
    continue_since: datetime | None


def create_replayer(applier: Applier, store: Store, delete_timeout: float) -> Applier:
    """Return an applier for replays, whose long deletions do not shorten the time of webhooks."""
    return replace(
        applier.with_source(REPLAY),
        store=store,
        delete_timeout=delete_timeout,
        congestion=Congestion(),
        parts=asyncio.Semaphore(MAX_CONNECTIONS),
    )


async def replay_event(applier: Applier, event: Event, who: str) -> Outcome:
    """Apply a stored event again. Raises `DatabaseError` if the audit cannot be written; then nothing is applied."""
    async with applier.store.database.acquire() as connection:
        await add_entry(connection, AuditEntry(who, REPLAY, event.id or ""))
    [outcome] = await applier.apply([event])
    return outcome


async def begin_bulk(connection: Connection, selection: Filter, who: str | None) -> tuple[int, Filter]:
    """Return the number of selected events, and the filter without events that arrive later.

    `who` is None for a dry run, which is no action for the audit. Raises the errors of asyncpg.
    """
    count, now = await count_events(connection, selection)
    if who:
        await add_entry(connection, AuditEntry(who, REPLAY, selection.describe(is_stored=count > 0)))
    return count, replace(selection, until=min(selection.until or now, now))


async def replay_all(applier: Applier, selection: Filter, *, who: str, dry_run: bool, max_seconds: float) -> BulkResult:
    """Apply the selected events again, the oldest first, or only count the outcomes. Raises `DatabaseError`."""
    database = applier.store.database
    clock = asyncio.get_running_loop().time
    end = clock() + max_seconds
    outcomes: Counter[str] = Counter()
    continue_since: datetime | None = None
    async with database.acquire() as connection:
        _, bounded = await begin_bulk(connection, selection, None if dry_run else who)

    async def iter_pages_in_time() -> AsyncIterator[list[Event]]:
        nonlocal continue_since
        async for received_at, page in pages:
            if clock() > end:
                continue_since = received_at
                return
            yield page

    work = partial(preview_page if dry_run else _replay_page, applier)
    async with contextlib.aclosing(iter_pages(database, bounded)) as pages:
        # The next page is read while PostgreSQL works on one. Pages are applied one after the other, the oldest first.
        async for _, counts in map_in_order(iter_pages_in_time(), work, limit=1):
            outcomes += counts
    return BulkResult(outcomes, continue_since)


async def _replay_page(applier: Applier, page: Sequence[Event]) -> Counter[str]:
    return Counter(outcome.outcome for outcome in await applier.apply(page))
