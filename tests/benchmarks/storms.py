"""Bursts of one kind (fsync on): deletions of 64 clients beside the references, and a replay by the command.

An app's table refers to the users, with one row for each user that a deletion cascades to. The targets take turns. A
replay has no reference: the usual handler cannot apply a stored event again.
"""

import asyncio
import os
import subprocess
import tempfile
import time
from typing import Any

import asyncpg

from tests.benchmarks.bodies import make_body, make_id, make_request
from tests.benchmarks.generator import Order, drive
from tests.benchmarks.references import HANDLERS
from tests.benchmarks.report import write_rows
from tests.benchmarks.sender import Round, compute_costs
from tests.benchmarks.stored_data import make_users, store
from tests.benchmarks.targets import Target, Targets, run_targets
from tests.benchmarks.usage import measure_cpu_seconds
from tests.processes import COMMAND
from tests.world import SECRET

CLIENTS = 64
DELETIONS = int(os.environ.get("BENCH_DELETIONS", "10000"))
REPLAYED = int(os.environ.get("BENCH_REPLAYED", "100000"))
ROUNDS = 4

MIN_DELETIONS, MIN_REPLAYED = 3_000, 5_000


def measure() -> None:
    """Print the rates, and the CPU of the process or the command and of PostgreSQL."""
    with run_targets() as found:
        print(f"  {'':7} {'':16} {'':21} {'1/s':>7} {'CPU':>6} {'CPU PG':>6}")
        rows = [*_measure_deletions(found), _measure_replay(found)]
    for row, target in ((rows[-2], MIN_DELETIONS), (rows[-1], MIN_REPLAYED)):
        verdict = "met" if row["rate"] >= target else "MISSED"
        print(f"  {row['storm']}: {row['rate']:,.0f}/s, target {target:,}/s: {verdict}")
    write_rows("storms", rows)


def _measure_deletions(found: Targets) -> list[dict[str, Any]]:
    users = make_users(DELETIONS)
    # Users have events. In an empty inbox PostgreSQL would plan to read all of it, and keep the plan while it grows.
    store(found.postgres.dsn(), users, DELETIONS)
    asyncio.run(_add_children(found))
    parts = [users[number::ROUNDS] for number in range(ROUNDS)]
    rounds = [[_delete(found, target, part) for target in found] for part in parts]
    for name in ("public.users", *(f"{name}_users" for name in HANDLERS[: len(found.writers) - 1])):
        assert asyncio.run(_count(found, f"select count(*) from {name}")) == 0, name
    return [
        _print("deletions", target.name, DELETIONS, sum(one.report.seconds for one in mine), compute_costs(mine))
        for target, mine in zip(found, zip(*rounds, strict=True), strict=True)
    ]


def _delete(found: Targets, target: Target, users: list[str]) -> Round:
    now = time.time_ns() // 1_000_000
    bodies = [make_body("user.deleted", user, now) for user in users]
    requests = [make_request(target.path, make_id("msg_", now), body) for body in bodies]
    before = measure_cpu_seconds(target.pid), measure_cpu_seconds(found.postgres.pid)
    report = drive(Order([target.port], CLIENTS, 60, repeat=False, requests=requests))
    after = measure_cpu_seconds(target.pid), measure_cpu_seconds(found.postgres.pid)
    assert len(report.milliseconds) == len(users)
    return Round(report, after[0] - before[0], after[1] - before[1])


def _measure_replay(found: Targets) -> dict[str, Any]:
    asyncio.run(_insert_events(found))
    time.sleep(1)  # the session that inserted ends, and its CPU time moves to the server
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
    costs = {"cpu": used / REPLAYED * 1000, "cpu_postgres": spent / REPLAYED * 1000}
    return _print("replayed events", "sync-service", REPLAYED, seconds, costs)


def _print(storm: str, target: str, number: int, seconds: float, costs: dict[str, float]) -> dict[str, Any]:
    row: dict[str, Any] = {"storm": storm, "target": target, "number": number, "rate": number / seconds}
    row |= {"cpu": costs["cpu"], "cpu_postgres": costs["cpu_postgres"]}
    print("  {number:7,} {storm:16} {target:21} {rate:7,.0f} {cpu:6.2f} {cpu_postgres:6.2f}".format(**row))
    return row


async def _count(found: Targets, sql: str) -> int:
    connection = await asyncpg.connect(found.postgres.dsn())
    try:
        return int(await connection.fetchval(sql))
    finally:
        await connection.close()


async def _add_children(found: Targets) -> None:
    """Create a table of the app for each target's users, as most apps have several."""
    connection = await asyncpg.connect(found.postgres.dsn())
    for name in ("users", *(f"{name}_users" for name in HANDLERS)):
        await connection.execute(_CREATE_CHILDREN.format(users=name))
    await connection.execute("vacuum analyze")
    await connection.execute("checkpoint")
    await connection.close()


_CREATE_CHILDREN = """
create table notes_of_{users} (user_id text not null references {users} (id) on delete cascade, content text);
insert into notes_of_{users} select id, 'a note' from {users};
create index on notes_of_{users} (user_id);
"""


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
