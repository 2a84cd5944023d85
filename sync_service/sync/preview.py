"""The change that a replay would make, shown without making it: the replay itself runs, and is rolled back."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from sync_service.clerk.events import Event
from sync_service.logs import bind_context
from sync_service.postgres.pool import Connection
from sync_service.store.access import Store
from sync_service.store.events import EventDetail, Failure, get_event
from sync_service.store.rehearsal import rehearse
from sync_service.sync.apply import Applier
from sync_service.sync.commit import Congestion
from sync_service.sync.outcome import Outcome

RowAction = Literal["insert", "update", "delete", "none"]
Row = dict[str, Raw] | None

_NULL = Raw(b"null")


class Preview(Struct, frozen=True):
    """The result of a dry run: the action on the row, and the old and the new value of each changed column."""

    outcome: str
    reason: str | None
    row: RowAction
    changes: dict[str, tuple[Raw, Raw]]


async def preview_event(applier: Applier, event: Event) -> tuple[Preview, Failure | None]:
    """Return the result of a replay, and the failure that it would record. Raises `DatabaseError`."""
    with bind_context(dry_run=True):
        async with rehearse(applier.store) as store:
            rehearsal = replace(_isolate(applier), store=store)
            async with store.database.acquire() as connection:
                before = await _read_row(connection, store, event)
            [outcome] = await rehearsal.apply([event])
            async with store.database.acquire() as connection:
                after = await _read_row(connection, store, event)
                stored = await get_event(connection, event.id or "")
    kind, changes = compare_rows(before, after)
    return Preview(outcome.outcome, outcome.reason, kind, changes), _find_failure(outcome, stored)


async def preview_page(applier: Applier, events: Sequence[Event]) -> Counter[str]:
    """Return the outcomes of a replay of one page. Raises `DatabaseError`."""
    with bind_context(dry_run=True):
        async with rehearse(applier.store) as store:
            outcomes = await replace(_isolate(applier), store=store).apply(events)
    return Counter(outcome.outcome for outcome in outcomes)


def compare_rows(before: Row, after: Row) -> tuple[RowAction, dict[str, tuple[Raw, Raw]]]:
    """Return the action on the row, and the values that change. A deletion changes all of them to null."""
    old, new = before or {}, after or {}
    pairs = {name: (old.get(name, _NULL), new.get(name, _NULL)) for name in {**old, **new}}
    changes = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if before is None:
        return "none" if after is None else "insert", changes
    if after is None:
        return "delete", pairs
    return "update" if changes else "none", changes


def _isolate(applier: Applier) -> Applier:
    """Return an applier without effects outside the transaction: on the background work, metrics, later deletions."""
    return replace(
        applier,
        on_work_left=lambda: None,
        on_commit=lambda: None,
        on_retry=lambda _: None,
        congestion=Congestion(),
        parts=asyncio.Semaphore(1),
    )


async def _read_row(connection: Connection, store: Store, event: Event) -> Row:
    binding = store.bindings.get(event.entity)
    text = await connection.fetchval(binding.lookups.row, event.clerk_id) if binding and event.clerk_id else None
    return msgspec.json.decode(text, type=dict[str, Raw]) if text else None


def _find_failure(outcome: Outcome, stored: EventDetail | None) -> Failure | None:
    has_failed = outcome.outcome == "parked" and stored is not None and stored.failures
    return stored.failures[-1] if stored and has_failed and stored.failures[-1].reason == outcome.reason else None
