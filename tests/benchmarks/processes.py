"""One, two, four and ten processes on one durable database: throughput, fairness, and the waits of their sessions.

The same 64 clients are spread over the processes. The statements of all processes are in one database, so they would
wait for each other's locks if a lock covered more than a user. All processes share the cores of this machine: the rate
cannot grow with their number, and must not fall by waiting.
"""

import asyncio
import contextlib
import os
import statistics
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg

from sync_service.dev.embedded import EmbeddedServer, run_embedded_postgres
from tests.benchmarks.report import write_rows
from tests.benchmarks.sender import Round, Sender, compute_costs, compute_percentiles
from tests.benchmarks.targets import Target
from tests.benchmarks.usage import measure_cpu_seconds
from tests.processes import Process, run_command, start_command
from tests.world import SECRET

PROCESSES = (1, 2, 4, 10)
CLIENTS = 64
ROUNDS = 3
SECONDS = float(os.environ.get("BENCH_SECONDS", "2"))

SAMPLE_SECONDS = 0.01

# The sessions of the services that work now, with the reason of their wait. Client waits are idle.
ACTIVE = """
select coalesce(wait_event_type || ' ' || wait_event, 'running') as wait, count(*)
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and state = 'active' and backend_type = 'client backend'
group by 1
"""


def measure() -> None:
    """Print a line for each number of processes."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        settings = {"max_connections": "150"}
        postgres = stack.enter_context(run_embedded_postgres(Path(name) / "postgres", settings=settings))
        environ = {"DATABASE_URL": postgres.dsn(), "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "QUIET": "1"}
        run_command("migrate", cwd=Path(name), **environ)
        services = [
            stack.enter_context(start_command("serve", cwd=Path(name), **environ)) for _ in range(max(PROCESSES))
        ]
        for service in services:
            service.wait_for('"event":"ready"')
        first = services[0]
        sender = Sender(Target("sync-service", first.popen.pid, first.port, "/webhooks/clerk"))
        print(f"  {CLIENTS} clients, {ROUNDS} rounds of {SECONDS:g} s each; shares: of the processes, 1.00 is equal;")
        print("  waits, of these rows: of the working sessions, by pg_stat_activity; CPU: seconds per 1,000 webhooks")
        print(f"\n  {'processes':>9} {'1/s':>7} {'p50':>8} {'p99':>8} ", end="")
        print(f"{'least':>6} {'most':>6} {'CPU':>6} {'CPU PG':>6} {'rows':>6}  waits")
        rows = [_measure_processes(sender, services[:number], postgres) for number in PROCESSES]
        asyncio.run(_check_stored_data(postgres.dsn(), sender))
    write_rows("processes", rows)


def _measure_processes(sender: Sender, services: list[Process], postgres: EmbeddedServer) -> dict[str, Any]:
    sender.ports = [service.port for service in services]
    sender.run_round(CLIENTS, min(SECONDS, 1.0), postgres.pid)  # warms up
    before = sum(measure_cpu_seconds(service.popen.pid) for service in services)
    with _sample_waits(postgres.dsn()) as waits:
        rounds = [sender.run_round(CLIENTS, SECONDS, postgres.pid) for _ in range(ROUNDS)]
    used = sum(measure_cpu_seconds(service.popen.pid) for service in services) - before
    return _print_line(rounds, used, waits)


def _print_line(rounds: list[Round], service_cpu: float, waits: Counter[str]) -> dict[str, Any]:
    by_port = sum((Counter(one.report.responses) for one in rounds), Counter())
    shares = [number / by_port.total() * len(by_port) for number in by_port.values()]
    p50, p99, _ = compute_percentiles(rounds)
    # `extend` is the lock of a table while its file grows.
    rows = sum(number for wait, number in waits.items() if wait.startswith("Lock ") and wait != "Lock extend")
    row: dict[str, Any] = {"processes": len(by_port), "rate": statistics.median(one.rate for one in rounds)}
    row |= {"p50": p50, "p99": p99, "least": min(shares), "most": max(shares)}
    row |= {"cpu": service_cpu / by_port.total() * 1000, "cpu_postgres": compute_costs(rounds)["cpu_postgres"]}
    row |= {"row_waits": rows / waits.total()}
    most = ", ".join(f"{wait} {number / waits.total():.1%}" for wait, number in waits.most_common(6))
    print(_LINE.format(**row), most)
    return row


_LINE = (
    "  {processes:9} {rate:7,.0f} {p50:5.1f} ms {p99:5.1f} ms {least:6.2f} {most:6.2f} {cpu:6.2f} {cpu_postgres:6.2f}"
    " {row_waits:6.1%} "
)


@contextlib.contextmanager
def _sample_waits(dsn: str) -> Iterator[Counter[str]]:
    """Count the waits of the services' sessions within the block."""
    waits: Counter[str] = Counter()
    is_over = threading.Event()

    async def sample() -> None:
        connection = await asyncpg.connect(dsn)
        while not is_over.is_set():
            for wait, number in await connection.fetch(ACTIVE):
                waits[wait] += number
            await asyncio.sleep(SAMPLE_SECONDS)
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(sample()))
    thread.start()
    try:
        yield waits
    finally:
        is_over.set()
        thread.join()


async def _check_stored_data(dsn: str, sender: Sender) -> None:
    connection = await asyncpg.connect(dsn)
    found = await connection.fetchrow(
        "select (select count(*) from clerk_sync.events), (select count(*) from public.users),"
        " pg_total_relation_size('clerk_sync.events'),"
        " (select deadlocks from pg_stat_database where datname = current_database())"
    )
    await connection.close()
    assert found
    events, users, size, deadlocks = found
    assert (events, users) == (sender.sent, len(sender.users)), (events, users, sender.sent)
    print(
        f"\n  each of {events:,} webhooks with a 2xx is stored, {users:,} users exist; {deadlocks} deadlocks;", end=""
    )
    print(f" {size / events:,.0f} bytes of the inbox for each event")
