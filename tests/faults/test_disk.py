"""A full disk: only stored events are acknowledged, and the service continues once there is space."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.faults.conftest import RunUnderFault, prepare
from tests.faults.disk import Disk, mount_small_disk
from tests.faults.engine import Engine, run_engine
from tests.faults.fault_run import ROUNDS, FaultRun
from tests.world import wait_until

TABLES = 64

# A new cluster takes 25 MB, its first WAL file 16 MB, and each further one 16 MB.
CLUSTER = 160

# 200 MB of WAL without any effect.
BALLAST = """
    select pg_logical_emit_message(false, 'ballast', repeat('x', 1000000)) from generate_series(1, 200)
"""


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    with mount_small_disk(request.param) as mounted:
        if mounted is None:
            pytest.skip("a small disk can only be mounted by root, on Linux, where mount is allowed")
        yield mounted


@pytest.mark.parametrize("disk", [TABLES], indirect=True)
async def test_no_event_is_lost_when_the_disk_of_the_tables_is_full(
    run_under_fault: RunUnderFault, durable: Engine, disk: Disk
) -> None:
    """SQLSTATE 53100 is a 503, so the sender retries."""
    async with durable.connect("postgres") as admin:
        await admin.execute(f"create tablespace small location '{disk.folder / 'postgres'}'")
        async with run_under_fault("disk of the tables full", tablespace="small") as run:
            for _ in range(ROUNDS):
                await run.wait(0.3, 0.6)
                disk.fill()
                run.count_injected()
                await _wait_until_refused(run)
                disk.empty()
                await run.services[0].wait_until_ready()
        await admin.execute(f"drop database {run.database} with (force)")
        await admin.execute("drop tablespace small")


@pytest.fixture
def small_engine(disk: Disk, tmp_path: Path) -> Iterator[Engine]:
    """A server with all its files on that disk."""
    with run_engine(disk.folder / "postgres" / "data", max_wal_size="32MB", min_wal_size="32MB") as engine:
        prepare(engine, tmp_path)
        yield engine


@pytest.mark.parametrize("disk", [CLUSTER], indirect=True)
async def test_no_event_is_lost_when_the_disk_of_the_wal_is_full(
    run_under_fault: RunUnderFault, small_engine: Engine, disk: Disk
) -> None:
    """PostgreSQL stops when it cannot write its WAL; its owner frees space and starts it again."""
    async with run_under_fault("disk of the WAL full", engine=small_engine) as run:
        await run.wait(0.3, 0.6)
        disk.fill()
        run.count_injected()
        async with small_engine.connect("postgres") as admin:
            # The preallocated WAL files are used up, so the next byte needs a new file.
            with pytest.raises((asyncpg.PostgresError, OSError)):
                await admin.fetch(BALLAST)
        await _wait_until_refused(run)
        disk.empty()
        await asyncio.to_thread(small_engine.stop)  # it has stopped or is about to stop
        await asyncio.to_thread(small_engine.start)
        await run.services[0].wait_until_ready()


async def _wait_until_refused(run: FaultRun) -> None:
    """Wait until more than 20 attempts got a 503."""
    before = len(run.sender.results)
    await wait_until(lambda: sum(result.status == 503 for result in run.sender.results[before:]) > 20, 30)
    assert await run.services[0].get_status("/healthz") == 200
