"""The reconcile: imports of several sizes, webhooks during an import, and a run over unchanged users.

The stand-in of Clerk (clerk_list.py), PostgreSQL and the command share the cores. The reference is the usual script
(usual_import.py); both take turns, because the load of the machine varies.
"""

import os
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from tests.benchmarks.bodies import make_body, make_request
from tests.benchmarks.clerk_list import make_id
from tests.benchmarks.generator import Connection, receive_status
from tests.benchmarks.reconcile_runs import Bench, Run, run_bench
from tests.processes import start_command
from tests.world import SECRET

USERS = int(os.environ.get("BENCH_USERS", "100_000"))
ALL_USERS = int(os.environ.get("BENCH_ALL_USERS", "1_000_000"))
ROUNDS = 3
# The usual script imports this part of the users, because it takes long.
USUAL_SHARE = 4

# Milliseconds between two webhooks of the one live client.
WEBHOOK_INTERVAL = 20

MIN_RATE = 15_000
MAX_MEGABYTES = 200
MAX_UNCHANGED_SECONDS = 120
MAX_WAL_BYTES = 1_000_000
MAX_P99_MS = 50


class LiveWebhooks:
    """One client that sends webhooks at an interval: changes of users that the import also writes."""

    def __init__(self, port: int, users: int) -> None:
        self._line = Connection(port)
        self._users = users
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.milliseconds: list[float] = []
        self.refused = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._line.socket.close()

    def _send(self) -> None:
        chance = random.Random(1)
        while not self._ended.wait(WEBHOOK_INTERVAL / 1000):
            now = time.time_ns() // 1_000_000
            body = make_body("user.updated", make_id(chance.randrange(self._users)), now)
            request = make_request("/webhooks/clerk", f"msg_live_{now}", body)
            began = time.perf_counter()
            self._line.socket.sendall(request)
            while not (status := receive_status(self._line)):
                pass
            self.refused += not status.startswith(b"2")
            self.milliseconds.append((time.perf_counter() - began) * 1000)


def measure() -> None:
    """Print the cost of each run, and whether the performance targets are met."""
    with run_bench() as bench:
        print("  CPU: seconds per 100,000 users of the process and of PostgreSQL; memory: the process's maximum")
        print(
            f"  {'':24} {'users':>9} {'':9} {'users/s':>8} {'CPU':>6} {'CPU PG':>7} {'MB':>5} {'MB WAL':>8} {'dead':>7}"
        )
        ratio = _compare_with_usual(bench)
        rate = statistics.median(_import(bench, USERS).rate for _ in range(ROUNDS))
        p99 = _measure_webhooks(bench)
        small = _import(bench, max(USERS // 10, 1000))
        large = _import(bench, ALL_USERS)
        bench.settle()
        unchanged = _print("unchanged", bench.reconcile(ALL_USERS, repaired=0))
    _print_verdict(f"an import: {rate:,.0f} users/s, {ratio:.1f} times the usual script", rate >= MIN_RATE)
    memory = f"memory from {small.megabytes:.0f} MB to {large.megabytes:.0f} MB"
    _print_verdict(memory, max(large.megabytes, unchanged.megabytes) < MAX_MEGABYTES)
    cost = f"unchanged users: {unchanged.seconds:.0f} s, {unchanged.wal:,} bytes of WAL, {unchanged.dead} dead rows"
    is_met = unchanged.seconds < MAX_UNCHANGED_SECONDS and unchanged.wal < MAX_WAL_BYTES and not unchanged.dead
    _print_verdict(cost, is_met)
    _print_verdict(f"a webhook during an import: p99 {p99:.1f} ms", p99 <= MAX_P99_MS)


def _compare_with_usual(bench: Bench) -> float:
    """Return the ratio of the two rates of an import."""
    ratios = []
    for _ in range(ROUNDS):
        bench.empty()
        usual = _print("the usual script", bench.import_as_usual(USERS // USUAL_SHARE))
        ratios.append(_import(bench, USERS // USUAL_SHARE).rate / usual.rate)
    return statistics.median(ratios)


def _import(bench: Bench, users: int) -> Run:
    bench.empty()
    return _print("import", bench.reconcile(users, repaired=users))


def _measure_webhooks(bench: Bench) -> float:
    """Return the 99th percentile of a webhook during an import, in milliseconds."""
    bench.empty()
    environ = {**bench.environ, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "WEB_CONCURRENCY": "1"}
    environ |= {"SYNC_RECONCILE_EVERY": "0", "SYNC_RECONCILE_RECENT_EVERY": "0", "LOG_LEVEL": "info"}
    with tempfile.TemporaryDirectory() as folder, start_command("serve", cwd=Path(folder), **environ) as service:
        service.wait_for('"event":"ready"')
        with LiveWebhooks(service.port, USERS) as live:
            _print("import, with webhooks", bench.reconcile(USERS))
    assert not live.refused
    behind = bench.fetch_number(
        "select count(*) from public.users join clerk_sync.identities on clerk_id = id"
        " where version <> extract(epoch from updated_at) * 1000"
    )
    assert behind == 0, f"{behind} rows are older than their identities"
    p50, p99 = statistics.median(live.milliseconds), statistics.quantiles(live.milliseconds, n=100)[98]
    slowest = max(live.milliseconds)
    print(f"  {len(live.milliseconds)} webhooks: p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {slowest:.1f} ms")
    return p99


def _print(name: str, run: Run) -> Run:
    print(f"  {name:24} {run}", flush=True)
    return run


def _print_verdict(label: str, is_met: bool) -> None:
    print(f"  {label}: {'met' if is_met else 'MISSED'}")
