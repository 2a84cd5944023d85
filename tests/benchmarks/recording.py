"""Webhooks from 1, 16 and 64 clients with recording of changes, beside the same service without it (fsync on).

Both are processes of the same program with databases of their own on one server, and take turns in every round.
"""

import asyncio
import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from sync_service.dev.embedded import EmbeddedServer, run_embedded_postgres
from tests.benchmarks.load import CLIENTS, ROUNDS, SECONDS, WARM_UP_SECONDS
from tests.benchmarks.sender import Sender
from tests.benchmarks.targets import Target
from tests.processes import run_command, start_command
from tests.world import SECRET

MIN_RATIO = 0.85


def measure() -> None:
    """Print the rates of both and the median of their ratios, for each number of clients."""
    with (
        tempfile.TemporaryDirectory() as name,
        run_embedded_postgres(Path(name) / "postgres") as postgres,
        _run(postgres, Path(name) / "without", "") as without,
        _run(postgres, Path(name) / "with", TOML) as recorded,
    ):
        senders = [Sender(without), Sender(recorded)]
        for clients in CLIENTS:
            for sender in senders:
                sender.run_round(clients, WARM_UP_SECONDS, postgres.pid)
            rounds = [[s.run_round(clients, SECONDS, postgres.pid) for s in senders] for _ in range(ROUNDS)]
            ratio = statistics.median(mine.rate / plain.rate for plain, mine in rounds)
            rates = [statistics.median(pair[n].rate for pair in rounds) for n in (0, 1)]
            cpu = [
                sum(pair[n].postgres_cpu for pair in rounds)
                / sum(len(pair[n].report.milliseconds) for pair in rounds)
                * 1000
                for n in (0, 1)
            ]
            print(
                f"  {clients:3} clients  without {rates[0]:6,.0f}/s  with {rates[1]:6,.0f}/s  ratio {ratio:4.2f}"
                f"  CPU of PostgreSQL per 1,000: {cpu[0]:.2f} s, {cpu[1]:.2f} s"
            )
    print(f"  target: a ratio of at least {MIN_RATIO}")


TOML = "[changes]\nrecord = true\n"


@contextlib.contextmanager
def _run(postgres: EmbeddedServer, folder: Path, toml: str) -> Iterator[Target]:
    """Start the service in a folder with its own database and this `sync.toml`."""
    folder.mkdir()
    if toml:
        (folder / "sync.toml").write_text(toml)
    environ = {
        "DATABASE_URL": asyncio.run(_create_database(postgres, folder.name)),
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
    }
    environ |= {"WEB_CONCURRENCY": "1", "QUIET": "1"}
    run_command("migrate", cwd=folder, **environ)
    with start_command("serve", cwd=folder, **environ) as service:
        service.wait_for('"event":"ready"')
        yield Target(folder.name, service.popen.pid, service.port, "/webhooks/clerk")


async def _create_database(postgres: EmbeddedServer, name: str) -> str:
    connection = await asyncpg.connect(postgres.dsn())
    await connection.execute(f'create database "{name}"')
    await connection.close()
    return postgres.dsn(name)
