"""The rate of updates with 10 thousand and 1 million users in the tables; BENCH_MAX_USERS adds a size, such as 5000000.

Each size has a PostgreSQL server and processes of its own, and an event is stored for every fifth user. 64 clients
update random users (fsync on). All sizes and targets take turns in every round, because the load of the machine varies.
Each round begins with a checkpoint. The first change of a page after it writes the whole page to the log, so these are
the most expensive seconds. PostgreSQL has its default settings; BENCH_SHARED_BUFFERS=2GB gives it more memory.
"""

import asyncio
import contextlib
import os
import random
import statistics
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.benchmarks.load import BUSY_CLIENTS
from tests.benchmarks.report import write_rows
from tests.benchmarks.sender import (
    Round,
    Sender,
    compute_costs,
    compute_percentiles,
    compute_ratio,
    run_measured_round,
)
from tests.benchmarks.stored_data import make_users, store
from tests.benchmarks.targets import Targets, run_targets

SIZES = sorted({10_000, 1_000_000, int(os.environ.get("BENCH_MAX_USERS", "0"))} - {0})
ROUNDS = 5
SECONDS = float(os.environ.get("BENCH_GROWTH_SECONDS", "5"))

SETTINGS = {"shared_buffers": os.environ.get("BENCH_SHARED_BUFFERS", "128MB")}

USERS_PER_EVENT = 5

MIN_OF_SMALLEST = 0.9
MIN_OF_USUAL = 3.0

# Users that the rounds update. Each of them is in a random place of the tables and of their indexes.
SAMPLE = 500_000


@dataclass
class _Lane:
    """A target with a number of users, and its rounds."""

    users: int
    found: Targets
    sender: Sender
    rounds: list[Round] = field(default_factory=list)


def measure() -> None:
    """Print a line for each size and target, with the ratio to the smallest size."""
    with contextlib.ExitStack() as stack:
        lanes = [lane for size in SIZES for lane in _prepare(size, stack.enter_context(run_targets(**SETTINGS)))]
        print(f"  {ROUNDS} rounds of {SECONDS:g} s of each, in turns", flush=True)
        for number in range(ROUNDS + 1):
            for lane in lanes:
                asyncio.run(_checkpoint(lane.found.postgres.dsn()))
                done = run_measured_round(lane.sender, BUSY_CLIENTS, SECONDS, lane.found.postgres)
                if number:  # the first round is a warm-up
                    lane.rounds.append(done)
        rows = _print_lines(lanes)
    write_rows("growth", rows)


def _prepare(size: int, found: Targets) -> list[_Lane]:
    print(f"  storing {size:,} users …", flush=True)
    users = make_users(size)
    store(found.postgres.dsn(), users, size // USERS_PER_EVENT)
    updated = random.sample(users, min(size, SAMPLE))
    return [_Lane(size, found, Sender(target, users=updated, creates=False)) for target in found.writers]


async def _checkpoint(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("checkpoint")
    await connection.close()


def _print_lines(lanes: list[_Lane]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    print(f"  {'users':>9}  {'':21} {'1/s':>6} {'of (b)':>6} {'of 10k':>6} {'p50':>8} {'p99':>8} ", end="")
    print(f"{'CPU':>5} {'CPU PG':>6} {'WAL':>6} {'disk':>6}")
    for lane in lanes:
        target = lane.sender.target
        usual = next(one for one in lanes if one.users == lane.users)
        smallest = next(one for one in lanes if one.sender.target.name == target.name)
        p50, p99, _ = compute_percentiles(lane.rounds)
        rate = statistics.median(one.rate for one in lane.rounds)
        row = {"users": lane.users, "target": target.name, "rate": rate, "p50": p50, "p99": p99}
        row |= {"of_usual": compute_ratio(lane.rounds, usual.rounds)}
        row |= {"of_smallest": compute_ratio(lane.rounds, smallest.rounds), **compute_costs(lane.rounds)}
        rows.append(row)
        print(_LINE.format(**row))
    largest = rows[-1]
    for name, minimum in {"of_smallest": MIN_OF_SMALLEST, "of_usual": MIN_OF_USUAL}.items():
        label = f"the rate with {SIZES[0]:,} users" if name == "of_smallest" else "(b)"
        verdict = "met" if largest[name] >= minimum else "MISSED"
        print(f"  with {largest['users']:,} users {largest[name]:.2f} of {label}, target {minimum:g}: {verdict}")
    return rows


_LINE = (
    "  {users:9,}  {target:21} {rate:6,.0f} {of_usual:6.2f} {of_smallest:6.2f} {p50:5.1f} ms {p99:5.1f} ms"
    " {cpu:5.2f} {cpu_postgres:6.2f} {wal:6,.0f} {disk:6,.0f}"
)
