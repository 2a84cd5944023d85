"""The cost of a run does not grow with each user: statements, WAL, memory, decoding."""

import contextlib
import json
import tracemalloc
from typing import Any
from urllib.parse import parse_qs

import asyncpg
import pytest
from starlette.responses import Response

from sync_service.clerk.json_repair import MAX_DEPTH
from sync_service.clerk.user_list import decode_page, decode_users
from sync_service.postgres.pool import MAX_CONNECTIONS, Database
from tests.benchmarks.clerk_list import render_page
from tests.clerk_stub import ClerkStub
from tests.reconcile.conftest import Reconcile, add_users


@pytest.fixture
async def statements(database_of_runs: Database) -> list[str]:
    """Record the statements of all connections of the runs."""
    recorded: list[str] = []

    def record(query: asyncpg.connection.LoggedQuery) -> None:
        recorded.append(query.query)

    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            (await stack.enter_async_context(database_of_runs.acquire())).add_query_logger(record)
    return recorded


async def test_a_page_costs_one_comparison_and_one_write(
    reconcile: Reconcile, clerk: ClerkStub, statements: list[str]
) -> None:
    """After the first pages, an import builds no row for a comparison. A run over unchanged users only compares."""
    add_users(clerk, 3700)
    comparison = "unnest((select $1::text[])"
    assert (await reconcile()).pages == 8
    assert sum(comparison in statement for statement in statements) == 8
    assert sum("as has_row" in statement for statement in statements) <= 4
    assert sum("insert into clerk_sync.identities" in statement for statement in statements) == 8
    assert len(statements) < 60
    statements.clear()
    assert (await reconcile()).drift == 0
    assert sum(comparison in statement for statement in statements) == 8
    assert len(statements) < 40


async def test_a_run_over_unchanged_users_writes_almost_no_wal(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """Only the row of the run is written, and no row is locked. Updates of 2,600 users would be a megabyte of WAL."""
    add_users(clerk, 2600)
    await reconcile()
    for statement in ("vacuum analyze", "vacuum"):  # otherwise autovacuum, or the first read of a row, may write
        await db.execute(statement)
    rows = "select array_agg((ctid, xmin, xmax)::text) from clerk_sync.identities"
    position, before = await db.fetchval("select pg_current_wal_insert_lsn()"), await db.fetchval(rows)
    assert (await reconcile()).is_clean
    assert await db.fetchval("select pg_current_wal_insert_lsn() - $1::pg_lsn", position) < 150_000
    assert await db.fetchval(rows) == before


async def test_memory_does_not_grow_with_the_number_of_users(reconcile: Reconcile, clerk: ClerkStub) -> None:
    """Of twelve pages more, each of 2 MB, none is kept. 8 bytes of each user are."""

    async def measure(count: int) -> int:
        clerk.answer_list = lambda request: Response(render_page(count, parse_qs(request.url.query)))
        tracemalloc.reset_peak()
        assert (await reconcile()).users == count
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        few, many = await measure(3000), await measure(9000)
    finally:
        tracemalloc.stop()
    assert many - few < 8_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"first_name": "A\0da", "public_metadata": {"a": ["\0"]}},
        {"public_metadata": json.loads('{"a":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}")},
        {"banned": "perhaps"},
        {"unsafe_metadata": {"number": 1e999, "text": "\ud800"}},
        {"created_at": None, "email_addresses": None},
    ],
)
def test_a_page_decoded_at_once_has_the_same_users(changes: dict[str, Any]) -> None:
    """Without Clerk's whole JSON in the snapshots, each user has the same fields and the same version."""
    users = json.loads(render_page(3, {"limit": ["3"]}))
    users[1] |= changes
    content = json.dumps(users).replace("Infinity", "1e999").encode()
    assert decode_page(content) == decode_users(content)
    assert [bool(user.snapshot) for user in decode_page(content)] == [True, "banned" not in changes, True]
