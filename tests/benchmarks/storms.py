"""Bursts of one kind (fsync on): deletions of 64 clients, and a replay of the inbox by the command."""

import asyncio
import os
import subprocess
import tempfile
import time

import asyncpg

from tests.benchmarks.bodies import make_body, make_request
from tests.benchmarks.generator import Order, drive
from tests.benchmarks.growth import insert_users
from tests.benchmarks.targets import Targets, run_targets
from tests.benchmarks.usage import measure_cpu_seconds
from tests.processes import COMMAND
from tests.world import SECRET

CLIENTS = 64
DELETIONS = int(os.environ.get("BENCH_DELETIONS", "10000"))
REPLAYED = int(os.environ.get("BENCH_REPLAYED", "100000"))

MIN_DELETIONS, MIN_REPLAYED = 3_000, 5_000


def measure() -> None:
    """Print the rate of both, and the CPU of the service or the command and of PostgreSQL."""
    with run_targets() as found:
        _measure_deletions(found)
        _measure_replay(found)


def _measure_deletions(found: Targets) -> None:
    users = [f"user_{os.urandom(14).hex()[:27]}" for _ in range(DELETIONS)]
    asyncio.run(insert_users(found, users))
    now = time.time_ns() // 1_000_000
    path = found.service.path
    requests = [
        make_request(path, f"msg_{os.urandom(14).hex()[:27]}", make_body("user.deleted", user, now)) for user in users
    ]
    before = measure_cpu_seconds(found.service.pid), measure_cpu_seconds(found.postgres.pid)
    report = drive(Order([found.service.port], CLIENTS, 60, repeat=False, requests=requests))
    after = measure_cpu_seconds(found.service.pid), measure_cpu_seconds(found.postgres.pid)
    assert len(report.milliseconds) == DELETIONS
    assert asyncio.run(_count(found, "select count(*) from public.users")) == 0
    _print("deletions", DELETIONS, report.seconds, MIN_DELETIONS, [b - a for a, b in zip(before, after, strict=True)])


def _measure_replay(found: Targets) -> None:
    asyncio.run(_insert_events(found))
    environ = {"DATABASE_URL": found.postgres.dsn(), "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "QUIET": "1"}
    before, postgres = os.times(), measure_cpu_seconds(found.postgres.pid)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        words = [str(COMMAND), "events", "replay", "--type", "user.updated"]
        done = subprocess.run(words, cwd=folder, env=os.environ | environ, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    assert done.returncode == 0, done.stderr
    spent, after = measure_cpu_seconds(found.postgres.pid) - postgres, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert asyncio.run(_count(found, "select count(*) from public.users")) == REPLAYED
    _print("replayed events", REPLAYED, seconds, MIN_REPLAYED, [used, spent])


def _print(name: str, number: int, seconds: float, target: int, cpu: list[float]) -> None:
    rate, (own, postgres) = number / seconds, (1000 * used / number for used in cpu)
    print(f"  {number:7,} {name:16} {seconds:6.1f} s {rate:7,.0f}/s, target {target:,}/s", end="")
    print(f"   CPU for 1,000: {own:.2f} s, PostgreSQL {postgres:.2f} s")


async def _count(found: Targets, sql: str) -> int:
    connection = await asyncpg.connect(found.postgres.dsn())
    try:
        return int(await connection.fetchval(sql))
    finally:
        await connection.close()


async def _insert_events(found: Targets) -> None:
    """Insert events that a replay applies, as if a table had lost its rows."""
    connection = await asyncpg.connect(found.postgres.dsn())
    for first in range(0, REPLAYED, 10_000):
        bodies = [
            make_body("user.updated", f"user_{number:027}", 1_761_092_033_553).decode()
            for number in range(first, min(first + 10_000, REPLAYED))
        ]
        await connection.execute(_INSERT_EVENTS, bodies)
    await connection.execute("vacuum analyze clerk_sync.events")
    await connection.close()


# Each event has a time of its own, as events of different batches have.
_INSERT_EVENTS = """
insert into clerk_sync.events (id, type, clerk_id, status, payload, received_at, finished_at)
select
    'msg_' || (body -> 'data' ->> 'id'), 'user.updated', body -> 'data' ->> 'id', 'applied', body -> 'data',
    clock_timestamp(), now()
from (select text::jsonb as body from unnest($1::text[]) as text) as bodies
"""
