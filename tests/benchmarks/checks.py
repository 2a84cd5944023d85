"""Checks that a measurement is fair: durable writes, a stored row for each 2xx, and the same row from all targets."""

import time
from collections.abc import Sequence

import asyncpg

from tests.benchmarks.bodies import make_body, make_id, make_request
from tests.benchmarks.generator import Order, drive
from tests.benchmarks.references import HANDLERS
from tests.benchmarks.sender import Sender
from tests.benchmarks.targets import Targets

DURABLE_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes")


async def check_stored_data(found: Targets, senders: Sequence[Sender]) -> str:
    """Compare the 2xx responses with the stored data, and return the numbers. The first sender is the bare route's."""
    *handlers, service = senders[1:]
    connection = await asyncpg.connect(found.postgres.dsn())
    try:
        for setting in DURABLE_SETTINGS:
            assert await connection.fetchval(f"show {setting}") == "on", setting
        by_status = await connection.fetch("select status, count(*) from clerk_sync.events group by status")
        stored: dict[str, int] = {record["status"]: record["count"] for record in by_status}
        users = await connection.fetchval("select count(*) from public.users")
        for name, handler in zip(HANDLERS, handlers, strict=False):
            assert await connection.fetchval(f"select count(*) from {name}_events") == handler.sent
            assert await connection.fetchval(f"select count(*) from {name}_users") == len(handler.users)
        assert set(stored) <= {"applied", "stale"}, stored
        assert (sum(stored.values()), users) == (service.sent, len(service.users)), (stored, users, service.sent)
        await _check_same_row(found, connection)
    finally:
        await connection.close()
    counts = ", ".join(f"{number:,} {status}" for status, number in sorted(stored.items()))
    return f"each of {service.sent:,} webhooks with a 2xx is stored ({counts}), {users:,} users exist"


async def _check_same_row(found: Targets, connection: asyncpg.Connection) -> None:
    """Send one event to all targets, and compare the rows that they write."""
    now = time.time_ns() // 1_000_000
    user = make_id("user_", now)
    for target in found:
        request = make_request(target.path, make_id("msg_", now), make_body("user.created", user, now))
        drive(Order([target.port], 1, 1, False, [request]))
    tables = ["public.users", *(f"{name}_users" for name in HANDLERS[: len(found.writers) - 1])]
    rows = [
        await connection.fetchval(f"select to_jsonb(u)::text from {table} as u where id = $1", user) for table in tables
    ]
    assert rows[0], "the service wrote no row"
    assert set(rows) == {rows[0]}, dict(zip(tables, rows, strict=True))
