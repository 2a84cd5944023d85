"""Runs of `reconcile` and of the usual script against PostgreSQL and the stand-in of Clerk, with their costs."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from sync_service.dev.embedded import EmbeddedServer, run_embedded_postgres
from tests.benchmarks.references import TABLES
from tests.benchmarks.targets import wait_for_server
from tests.benchmarks.usage import measure_cpu_seconds
from tests.processes import COMMAND, reserve_port, run_command

_EMPTY = "truncate public.users, usual_users, clerk_sync.identities, clerk_sync.events, clerk_sync.reconciles"
_WAL = "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
# The row of the run itself is updated at each checkpoint.
_DEAD = "select coalesce(sum(n_dead_tup), 0)::bigint from pg_stat_user_tables where relname <> 'reconciles'"


@dataclass(frozen=True)
class Run:
    """The cost of one run. `cpu` and `postgres_cpu` are seconds; `megabytes` is the maximum of the process."""

    users: int
    seconds: float
    cpu: float
    postgres_cpu: float
    megabytes: float
    wal: int
    dead: int

    @property
    def rate(self) -> float:
        """Users per second, from the start of the process to its end."""
        return self.users / self.seconds

    def __str__(self) -> str:
        share = 100_000 / self.users
        return (
            f"{self.users:9,} {self.seconds:7.1f} s {self.rate:8,.0f} {self.cpu * share:6.2f}"
            f" {self.postgres_cpu * share:7.2f} {self.megabytes:5.0f} {self.wal / 1e6:8.1f} {self.dead:7,}"
        )


class Bench:
    """PostgreSQL, the stand-in, and the commands that use them."""

    def __init__(self, postgres: EmbeddedServer, folder: Path, port: int) -> None:
        self._postgres = postgres
        self._folder = folder
        self._port = port
        self.environ = {"DATABASE_URL": postgres.dsn(), "CLERK_SECRET_KEY": "sk_live_bench", "QUIET": "1"}
        self.environ["LOG_LEVEL"] = "warning"  # no lines about the progress

    def reconcile(self, users: int, *, repaired: int | None = None) -> Run:
        """Run the command over so many users, and check how many it has written, if that is known."""
        words = [str(COMMAND), "reconcile", "--json"]
        run, output = self._run(words, users)
        report = json.loads(output)
        assert report["finished"], report
        assert report["users"] == users, report
        assert repaired in {None, report["repaired"]}, report
        return run

    def import_as_usual(self, users: int) -> Run:
        """Run the usual script."""
        return self._run([sys.executable, "-m", "tests.benchmarks.usual_import"], users)[0]

    def execute(self, statement: str) -> None:
        """Execute statements."""
        asyncio.run(self._execute(statement))

    async def _execute(self, statement: str) -> None:
        async with asyncpg.create_pool(self._postgres.dsn(), min_size=1, max_size=1) as pool:
            await pool.execute(statement)

    def fetch_number(self, query: str) -> int:
        """Return the one number of a query."""
        return asyncio.run(self._fetch_number(query))

    async def _fetch_number(self, query: str) -> int:
        async with asyncpg.create_pool(self._postgres.dsn(), min_size=1, max_size=1) as pool:
            return int(await pool.fetchval(query))

    def empty(self) -> None:
        """Remove all users, and the work that PostgreSQL would do later."""
        self.execute(_EMPTY)
        self.settle()

    def settle(self) -> None:
        """Do the work that PostgreSQL does at some time after writes: hint bits, statistics, dirty pages."""
        self.execute("vacuum analyze")
        self.execute("vacuum")  # of the statistics
        self.execute("checkpoint")

    def _run(self, words: list[str], users: int) -> tuple[Run, str]:
        environ = {**os.environ, **self.environ, "CLERK_API_URL": f"http://127.0.0.1:{self._port}/{users}"}
        wal, dead, used = self._measure()
        began = time.perf_counter()
        with subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, output
        after = self._measure()
        cpu = usage.ru_utime + usage.ru_stime
        megabytes = usage.ru_maxrss * 1024 / 1_000_000
        return Run(users, seconds, cpu, after[2] - used, megabytes, after[0] - wal, after[1] - dead), output

    def _measure(self) -> tuple[int, int, float]:
        return self.fetch_number(_WAL), self.fetch_number(_DEAD), measure_cpu_seconds(self._postgres.pid)


@contextlib.contextmanager
def run_bench() -> Iterator[Bench]:
    """Start PostgreSQL with its default, durable settings, and the stand-in."""
    port = reserve_port()
    with tempfile.TemporaryDirectory() as name, run_embedded_postgres(Path(name) / "postgres") as postgres:
        words = [sys.executable, "-m", "tests.benchmarks.clerk_list", str(port)]
        with subprocess.Popen(words) as stand_in:
            try:
                wait_for_server(stand_in, port)
                bench = Bench(postgres, Path(name), port)
                run_command("migrate", cwd=Path(name), **bench.environ)
                bench.execute(TABLES)
                yield bench
            finally:
                stand_in.terminate()
