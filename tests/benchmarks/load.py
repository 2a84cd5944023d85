"""Webhooks from 1, 16, 64 and 256 clients, durable (fsync on): the service beside a bare route and the usual handlers.

The targets take turns in every round, because the load of the machine varies; a ratio is the median of the
ratios of the rounds. The generator (generator.py) shares the two cores with all other processes. It was compared by
hand with wrk 4.1 and hey: the same 2.5 kB to the bare route, on a busy machine, requests per second, two rounds each:

    clients    generator.py      wrk -t1           hey
          1    12,100  19,800    13,300  22,600    11,400  11,900
         16    22,600  23,700    24,900  23,300    19,600  19,600
         64    26,400  22,900    21,900  23,700    20,900  17,200
"""

import asyncio
import os
import statistics
from typing import Any

from tests.benchmarks.checks import check_stored_data
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.report import write_rows
from tests.benchmarks.sender import (
    Round,
    Sender,
    compute_costs,
    compute_percentiles,
    compute_ratio,
    run_measured_round,
)
from tests.benchmarks.targets import run_targets

CLIENTS = (1, 16, 64, 256)
BUSY_CLIENTS = 64
ROUNDS = 7
SECONDS = float(os.environ.get("BENCH_SECONDS", "2"))
WARM_UP_SECONDS = min(SECONDS, 1.0)

MIN_RATIO = 3.5


def measure() -> None:
    """Print a line for each number of clients and each target, and whether the performance targets are met."""
    with run_targets() as found:
        print(f"  {ROUNDS} rounds of {SECONDS:g} s; a durable write takes {describe_machine()['durable_write_ms']} ms;")
        print("  CPU: seconds per 1,000 webhooks of the process and of PostgreSQL; memory: the process's maximum")
        print("  WAL, disk: bytes for each webhook")
        print(f"\n  {'clients':>7}  {'':21} {'1/s':>7} {'p50':>8} {'p99':>8} {'p99.9':>8} ", end="")
        print(f"{'of (b)':>7} {'of (a)':>7} {'CPU':>7} {'CPU PG':>7} {'MB':>5} {'WAL':>6} {'disk':>6}")
        senders = [Sender(target) for target in found]
        rounds: dict[int, list[list[Round]]] = {}
        rows: list[dict[str, Any]] = []
        for clients in CLIENTS:
            for sender in senders:
                sender.run_round(clients, WARM_UP_SECONDS, found.postgres.pid)
            taken = [
                [run_measured_round(sender, clients, SECONDS, found.postgres) for sender in senders]
                for _ in range(ROUNDS)
            ]
            rounds[clients] = [list(of_one) for of_one in zip(*taken, strict=True)]
            rows += _print_lines(clients, senders, rounds[clients])
        print(f"\n  {asyncio.run(check_stored_data(found, senders))}")
    busiest = max(one.report.busy for every in rounds.values() for of_one in every for one in of_one)
    print(f"  the generator was busy for {busiest:.0%} of a round at most", end="")
    print("; it was the bottleneck, the rates are too low" if busiest > 0.9 else "")
    print(_format_verdict(rounds))
    write_rows("load", rows)


def _print_lines(clients: int, senders: list[Sender], rounds: list[list[Round]]) -> list[dict[str, Any]]:
    """Print a line for each target; return the same figures."""
    bare, usual = rounds[:2]
    rows: list[dict[str, Any]] = []
    for sender, mine in zip(senders, rounds, strict=True):
        p50, p99, p999 = compute_percentiles(mine)
        row = {
            "clients": clients,
            "target": sender.target.name,
            "rate": statistics.median(one.rate for one in mine),
            "p50": p50,
            "p99": p99,
            "p999": p999,
            "of_usual": compute_ratio(mine, usual),
            "of_bare": compute_ratio(mine, bare),
            "megabytes": sender.megabytes,
            **compute_costs(mine),
        }
        rows.append(row)
        print(_LINE.format(**row))
    return rows


_LINE = (
    "  {clients:7}  {target:21} {rate:7,.0f} {p50:5.2f} ms {p99:5.1f} ms {p999:5.1f} ms {of_usual:7.2f} {of_bare:7.2f}"
    " {cpu:7.2f} {cpu_postgres:7.2f} {megabytes:5.0f} {wal:6,.0f} {disk:6,.0f}"
)


def _format_verdict(rounds: dict[int, list[list[Round]]]) -> str:
    """Return whether this run meets the performance targets."""
    usual, service = rounds[BUSY_CLIENTS][1], rounds[BUSY_CLIENTS][-1]
    ratio = compute_ratio(service, usual)
    usual, service = rounds[CLIENTS[0]][1], rounds[CLIENTS[0]][-1]
    ours, theirs = compute_percentiles(service)[0], compute_percentiles(usual)[0]
    return (
        f"  at {BUSY_CLIENTS} clients {ratio:.2f} times the usual handler, target {MIN_RATIO}:"
        f" {'met' if ratio >= MIN_RATIO else 'MISSED'};"
        f" at {CLIENTS[0]} client p50 {ours:.2f} ms, target at most its {theirs:.2f} ms:"
        f" {'met' if ours <= theirs else 'MISSED'}"
    )
