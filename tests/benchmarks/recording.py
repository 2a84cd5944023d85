"""Webhooks from 1, 16 and 64 clients with recording of changes, and with notifications, beside none (fsync on).

All are processes of the same program with databases of their own on one server, and take turns in every round.
"""

import asyncio
import contextlib
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncpg

from sync_service.dev.embedded import EmbeddedServer, run_embedded_postgres
from tests.benchmarks.load import CLIENTS, ROUNDS, SECONDS, WARM_UP_SECONDS
from tests.benchmarks.notifications import run_receiver
from tests.benchmarks.sender import Round, Sender
from tests.benchmarks.targets import Target
from tests.processes import run_command, start_command
from tests.world import SECRET

MIN_RATIO = 0.85


def measure() -> None:
    """Print the rates of all and the medians of their ratios, for each number of clients."""
    with (
        tempfile.TemporaryDirectory() as name,
        run_embedded_postgres(Path(name) / "postgres") as postgres,
        run_receiver() as url,
        _run(postgres, Path(name) / "plain", "") as plain,
        _run(postgres, Path(name) / "recording", TOML) as recording,
        _run(postgres, Path(name) / "notifying", "", SYNC_NOTIFY_URL=url, SYNC_NOTIFY_SECRET=SECRET) as notifying,
    ):
        senders = [Sender(plain), Sender(recording), Sender(notifying)]
        for clients in CLIENTS:
            for sender in senders:
                sender.run_round(clients, WARM_UP_SECONDS, postgres.pid)
            rounds = [[s.run_round(clients, SECONDS, postgres.pid) for s in senders] for _ in range(ROUNDS)]
            print(f"  {clients} clients")
            for sender, mine, reference in zip(senders, zip(*rounds, strict=True), _repeat_first(rounds), strict=True):
                print(f"    {sender.target.name:10} {_describe(mine, reference)}")
    print(f"  target: a ratio of at least {MIN_RATIO} with recording")


def _repeat_first(rounds: list[list[Round]]) -> list[list[Round]]:
    return [[one[0] for one in rounds]] * len(rounds[0])


def _describe(rounds: Sequence[Round], reference: Sequence[Round]) -> str:
    """Return the median rate, its ratio to the reference in the same round, and the CPU seconds of 1,000 webhooks."""
    rate = statistics.median(one.rate for one in rounds)
    ratio = statistics.median(one.rate / other.rate for one, other in zip(rounds, reference, strict=True))
    thousands = sum(len(one.report.milliseconds) for one in rounds) / 1000
    cpu, postgres_cpu = sum(one.service_cpu for one in rounds), sum(one.postgres_cpu for one in rounds)
    return (
        f"{rate:6,.0f}/s  ratio {ratio:4.2f}"
        f"  CPU for 1,000: process {cpu / thousands:.2f} s, PostgreSQL {postgres_cpu / thousands:.2f} s"
    )


TOML = "[changes]\nrecord = true\n"


@contextlib.contextmanager
def _run(postgres: EmbeddedServer, folder: Path, toml: str, **environ: str) -> Iterator[Target]:
    """Start the service in a folder with its own database, this `sync.toml` and these settings."""
    folder.mkdir()
    if toml:
        (folder / "sync.toml").write_text(toml)
    environ |= {
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
