"""The change feed: events go through `Applier`, and the entries are read from the database."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from sync_service.clerk.events import Event, parse_event
from sync_service.dsn import parse_dsn
from sync_service.mapping.table import TableMapping
from sync_service.postgres.pool import open_database
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from tests.world import encode_body, make_event, make_message_id

OpenApplier = Callable[[TableMapping], Awaitable[Applier]]


def make(event_type: str, user_id: str, updated_at: int, **data: Any) -> Event:
    """Return an event as a webhook brings it."""
    return parse_event(make_message_id(), encode_body(make_event(event_type, user_id, updated_at, **data)))


async def read_entries(db: asyncpg.Connection) -> list[tuple[str, str, set[str]]]:
    """Return type, user and columns of all entries, in order."""
    rows = await db.fetch("select type, clerk_id, columns from clerk_sync.changes order by transaction_id, id")
    return [(row["type"], row["clerk_id"], set(row["columns"])) for row in rows]


async def read_types(db: asyncpg.Connection) -> list[str]:
    """Return the types of all entries, in order."""
    return [event_type for event_type, _, _ in await read_entries(db)]


@pytest.fixture
async def open_applier(database: str) -> AsyncIterator[OpenApplier]:
    """Return a function that returns the applier of one more process."""
    pools = []

    async def open_(mapping: TableMapping) -> Applier:
        pools.append(await open_database(parse_dsn(database)))
        return Applier(Store(pools[-1], mapping))

    yield open_
    for pool in pools:
        await pool.aclose()
