"""The memory and the latency of the service at a constant rate of webhooks (fsync on).

BENCH_MINUTES is the duration, and BENCH_RATE the webhooks per second, half of them new users. The generator and the
signing share the cores with the service.
"""

import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.benchmarks.generator import Order, drive
from tests.benchmarks.report import write_rows
from tests.benchmarks.sender import Sender
from tests.benchmarks.targets import run_targets
from tests.benchmarks.usage import measure_cpu_seconds, measure_resident_megabytes

MINUTES = int(os.environ.get("BENCH_MINUTES", "3"))
RATE = int(os.environ.get("BENCH_RATE", "300"))
CLIENTS = 64

MAX_MEGABYTES = 100
# Memory that grows by less than this in an hour is flat.
MAX_GROWTH_MEGABYTES = 2
# The growth of a shorter run is mostly that of the warm-up.
MIN_MINUTES_FOR_GROWTH = 30


def measure() -> None:
    """Print a line for each minute, and whether the memory stays flat and below its limit."""
    print(f"  {RATE} webhooks per second for {MINUTES} minutes, {CLIENTS} connections; BENCH_MINUTES=60 takes an hour")
    rows: list[dict[str, Any]] = []
    with run_targets() as found, ThreadPoolExecutor(1) as signer:
        service, sender = found.service, Sender(found.service)
        print(f"  {'minute':>6} {'MB':>6} {'1/s':>5} {'p50':>8} {'p99':>8} {'p99.9':>8} {'longest':>8} {'CPU':>6}")
        prepared = sender.prepare(RATE * 60)
        for minute in range(1, MINUTES + 1):
            next_minute = signer.submit(sender.prepare, RATE * 60 if minute < MINUTES else 0)
            cpu = measure_cpu_seconds(service.pid)
            order = Order([service.port], CLIENTS, 60, False, [sent for _, sent in prepared], RATE)
            report = drive(order)
            cpu = measure_cpu_seconds(service.pid) - cpu
            sender.users += [user for user, _ in prepared if user]
            cuts = statistics.quantiles(report.milliseconds, n=1000)
            row = {"minute": minute, "megabytes": measure_resident_megabytes(service.pid)}
            row |= {"rate": len(report.milliseconds) / report.seconds, "p50": cuts[499], "p99": cuts[989]}
            row |= {"p999": cuts[998], "longest": max(report.milliseconds), "cpu": cpu / report.seconds}
            rows.append(row)
            print(_LINE.format(**row), flush=True)
            prepared = next_minute.result()
    _print_verdict([row["megabytes"] for row in rows])
    write_rows("endurance", rows)


_LINE = (
    "  {minute:6} {megabytes:6.1f} {rate:5.0f} {p50:5.2f} ms {p99:5.1f} ms {p999:5.1f} ms {longest:5.0f} ms {cpu:6.1%}"
)


def _print_verdict(megabytes: list[float]) -> None:
    most = max(megabytes)
    print(f"  {most:.1f} MB at most, target below {MAX_MEGABYTES}: {'met' if most < MAX_MEGABYTES else 'MISSED'}")
    if len(megabytes) < MIN_MINUTES_FOR_GROWTH:
        print(f"  the growth is judged in a run of at least {MIN_MINUTES_FOR_GROWTH} minutes")
        return
    growth = compute_growth(megabytes)
    verdict = "met" if growth < MAX_GROWTH_MEGABYTES else "MISSED"
    print(f"  it grows by {growth:.2f} MB in an hour, target below {MAX_GROWTH_MEGABYTES}: {verdict}")


def compute_growth(megabytes: list[float]) -> float:
    """Return the growth in an hour: the slope of a line through the values of the minutes after the first quarter."""
    first = len(megabytes) // 4
    return statistics.linear_regression(range(first, len(megabytes)), megabytes[first:]).slope * 60
