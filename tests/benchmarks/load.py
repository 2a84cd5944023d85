"""Webhooks at 1, 16 and 64 clients, durable (fsync on): the service beside a bare route and the usual handler.

The three take turns, round by round, since the machine is noisy; a ratio is the median of the rounds' ratios, of what
ran side by side. The generator (generator.py) shares the two cores, as everything does. It was held against wrk 4.1 and
hey by hand, with the same 2.5 kB on the bare route, on a busy machine, in requests a second, two rounds each:

    clients    generator.py      wrk -t1           hey
          1    12,100  19,800    13,300  22,600    11,400  11,900
         16    22,600  23,700    24,900  23,300    19,600  19,600
         64    26,400  22,900    21,900  23,700    20,900  17,200
"""

import asyncio
import os
import statistics
import time
from pathlib import Path

import asyncpg

from tests.benchmarks.sender import Round, Sender
from tests.benchmarks.targets import Targets, targets

CLIENTS = (1, 16, 64)
ROUNDS = 7
SECONDS = float(os.environ.get("BENCH_SECONDS", "2"))
WARM_UP_SECONDS = min(SECONDS, 1.0)

LEAST_RATIO = 2.5


def measure() -> None:
    """Print a line for each number of clients and target, and whether the targets of the issue are met."""
    with targets() as found:
        print(f"  {ROUNDS} rounds of {SECONDS:g} s; a write is on the disk after {_sync_milliseconds():.2f} ms;")
        print("  CPU: seconds per 1,000 webhooks of the process and of PostgreSQL; memory: the process's, at most")
        print(f"\n  {'clients':>7}  {'':21} {'1/s':>7} {'p50':>8} {'p99':>8} ", end="")
        print(f"{'of (b)':>7} {'of (a)':>7} {'CPU':>7} {'CPU PG':>7} {'MB':>5}")
        senders = [Sender(target) for target in found]
        rounds: dict[int, list[list[Round]]] = {}
        for clients in CLIENTS:
            for sender in senders:
                sender.round(clients, WARM_UP_SECONDS, found.postgres.pid)
            taken = [[sender.round(clients, SECONDS, found.postgres.pid) for sender in senders] for _ in range(ROUNDS)]
            rounds[clients] = [list(of_one) for of_one in zip(*taken, strict=True)]
            _print_lines(clients, senders, rounds[clients])
        print(f"\n  {asyncio.run(_account(found, senders))}")
    busiest = max(one.report.busy for every in rounds.values() for of_one in every for one in of_one)
    print(f"  the generator was busy for {busiest:.0%} of a round at most", end="")
    print("; it was the bottleneck, the rates are too low" if busiest > 0.9 else "")
    print(_verdict(rounds))


def _print_lines(clients: int, senders: list[Sender], rounds: list[list[Round]]) -> None:
    bare, usual, _ = rounds
    for sender, mine in zip(senders, rounds, strict=True):
        answered = sum(len(one.report.milliseconds) for one in mine)
        p50, p99 = _percentiles(mine)
        print(
            f"  {clients:7}  {sender.target.name:21} {statistics.median(one.rate for one in mine):7,.0f}"
            f" {p50:5.2f} ms {p99:5.1f} ms {_ratio(mine, usual):7.2f} {_ratio(mine, bare):7.2f}"
            f" {sum(one.service_cpu for one in mine) / answered * 1000:7.2f}"
            f" {sum(one.postgres_cpu for one in mine) / answered * 1000:7.2f} {sender.megabytes:5.0f}"
        )


def _verdict(rounds: dict[int, list[list[Round]]]) -> str:
    """Say whether the targets were met in this run."""
    _, usual, service = rounds[CLIENTS[-1]]
    ratio = _ratio(service, usual)
    _, usual, service = rounds[CLIENTS[0]]
    ours, theirs = _percentiles(service)[0], _percentiles(usual)[0]
    return (
        f"  at {CLIENTS[-1]} clients {ratio:.2f} times the usual handler, target {LEAST_RATIO}:"
        f" {'met' if ratio >= LEAST_RATIO else 'MISSED'};"
        f" at {CLIENTS[0]} client p50 {ours:.2f} ms, target at most its {theirs:.2f} ms:"
        f" {'met' if ours <= theirs else 'MISSED'}"
    )


def _ratio(these: list[Round], those: list[Round]) -> float:
    return statistics.median(this.rate / that.rate for this, that in zip(these, those, strict=True))


def _percentiles(rounds: list[Round]) -> tuple[float, float]:
    cuts = statistics.quantiles((taken for one in rounds for taken in one.report.milliseconds), n=100)
    return cuts[49], cuts[98]


async def _account(found: Targets, senders: list[Sender]) -> str:
    """Hold what was answered against what is there, and see that it was durable, so that no figure is of less work."""
    _, usual, service = senders
    connection = await asyncpg.connect(found.postgres.dsn())
    try:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await connection.fetchval(f"show {setting}") == "on", setting
        by_status = await connection.fetch("select status, count(*) from clerk_sync.events group by status")
        filed: dict[str, int] = {record["status"]: record["count"] for record in by_status}
        users = await connection.fetchval("select count(*) from public.users")
        assert await connection.fetchval("select count(*) from usual_events") == usual.sent
        assert await connection.fetchval("select count(*) from usual_users") == len(usual.users)
    finally:
        await connection.close()
    assert set(filed) <= {"applied", "stale"}, filed
    assert (sum(filed.values()), users) == (service.sent, len(service.users)), (filed, users, service.sent)
    told = ", ".join(f"{many:,} {status}" for status, many in sorted(filed.items()))
    return f"each of {service.sent:,} webhooks answered 2xx is filed ({told}), {users:,} users are there"


def _sync_milliseconds() -> float:
    """Return what one durable write costs here, for without it no figure means anything."""
    taken = []
    probe = Path(os.environ.get("TMPDIR", "/tmp")) / f"bench-sync-{os.getpid()}"
    try:
        with probe.open("wb", buffering=0) as file:
            for _ in range(50):
                began = time.perf_counter()
                file.write(bytes(8192))
                os.fdatasync(file.fileno())
                taken.append((time.perf_counter() - began) * 1000)
    finally:
        probe.unlink()
    return statistics.median(taken)
