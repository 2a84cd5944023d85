"""The cost of one event, counted and not timed: Python opcodes, statements and bytes of the write-ahead log.

The limits are a tenth above the counts of this code. A higher count is a regression, or needs a reason and a new limit.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from types import FrameType
from typing import Any

import asyncpg
import pytest

from sync_service.clerk.events import Event, parse_event
from sync_service.dsn import parse_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.pool import open_database
from sync_service.store.access import Store
from sync_service.store.event_filter import Filter
from sync_service.sync.apply import Applier
from sync_service.sync.replay import create_replayer, replay_all
from tests.benchmarks.bodies import make_body
from tests.conftest import Serve
from tests.world import T1, make_message_id, sign_event

MAX_OPCODES = 7_700
MAX_DELETION_OPCODES, MAX_REPLAY_OPCODES = 415, 1_270
MAX_WAL_BYTES = {"user.created": 3_000, "user.updated": 2_600, "user.deleted": 2_450}

# The packages that serve a request. The test's own client runs in the same process.
SERVING = ("/sync_service/", "/uvicorn/", "/starlette/", "/structlog/", "/asyncpg/", "/standardwebhooks/")

WEBHOOKS = 10
BATCH = 32

_times = count(T1)


@dataclass
class Work:
    """The counts. Each statement has a frame, which is called again at each of its pauses."""

    opcodes: int = 0
    statements: set[FrameType] = field(default_factory=set)


@contextmanager
def count_work() -> Iterator[Work]:
    """Count the opcodes of the service and its libraries, and its statements, within the block."""
    work = Work()

    def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if event == "call":
            name = frame.f_code.co_filename
            if "/tests/" in name or not any(part in name for part in SERVING):
                return None
            if frame.f_code.co_name == "__execute" and name.endswith("/asyncpg/connection.py"):
                work.statements.add(frame)
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        work.opcodes += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield work
    finally:
        sys.settrace(before)


async def test_a_webhook_takes_one_statement_and_few_opcodes(serve: Serve) -> None:
    async with serve() as world:

        async def deliver(user_id: str) -> None:
            body, message_id = make_body("user.updated", user_id, next(_times)), make_message_id()
            response = await world.post(body, sign_event(body, message_id))
            assert response.json() == {"outcome": "applied"}

        for number in range(WEBHOOKS):
            await deliver(f"user_{number}")
        with count_work() as counted:
            for number in range(WEBHOOKS):
                await deliver(f"user_{number}")
    assert len(counted.statements) == WEBHOOKS
    assert counted.opcodes / WEBHOOKS <= MAX_OPCODES


@pytest.mark.parametrize("apply", [Applier.apply, Applier.apply_again])
async def test_a_batch_of_deletions_takes_two_statements_and_few_opcodes(
    applier: Applier, apply: Callable[[Applier, list[Event]], Awaitable[object]]
) -> None:
    """The first one commits the tombstones, and the second one deletes the rows."""
    for _ in range(2):
        await applier.apply(make_events("user.created"))
        deletions = make_events("user.deleted")
        with count_work() as counted:
            await apply(applier, deletions)
    assert len(counted.statements) == 2
    assert counted.opcodes / BATCH <= MAX_DELETION_OPCODES


async def test_a_page_of_replayed_events_takes_two_statements_and_few_opcodes(applier: Applier) -> None:
    """One reads it, and one applies it. Two more count the events and write the audit."""
    await applier.apply(make_events("user.created"))
    replayer = create_replayer(applier, applier.store, delete_timeout=5)
    for _ in range(2):
        with count_work() as counted:
            done = await replay_all(replayer, Filter(type="user.created"), who="api", dry_run=False, max_seconds=60)
    assert done.outcomes == {"applied": BATCH}
    assert len(counted.statements) == 4
    assert counted.opcodes / BATCH <= MAX_REPLAY_OPCODES


@pytest.fixture
async def applier(database: str) -> AsyncIterator[Applier]:
    pool = await open_database(parse_dsn(database))
    yield Applier(Store(pool, DEFAULT))
    await pool.aclose()


def make_events(event_type: str, prefix: str = "user_") -> list[Event]:
    bodies = [make_body(event_type, f"{prefix}{number:026}", next(_times)) for number in range(BATCH)]
    return [parse_event(f"msg_{make_message_id():>027}", body) for body in bodies]


@pytest.mark.every_postgres
async def test_an_event_writes_few_bytes_to_the_log(applier: Applier, db: asyncpg.Connection) -> None:
    """The least of three batches: the server writes some records of its own."""
    await applier.apply(make_events("user.created"))
    for event_type, limit in MAX_WAL_BYTES.items():
        taken = []
        for round_number in range(3):
            prefix = "user_" if event_type == "user.updated" else f"user{round_number}_"
            events = make_events(event_type, prefix)
            before = await db.fetchval("select pg_current_wal_insert_lsn()")
            await applier.apply(events)
            taken.append((await db.fetchval("select pg_current_wal_insert_lsn()") - before) / BATCH)
        assert min(taken) <= limit, event_type
