"""A disk that is full: nothing is acknowledged that is not stored, and once there is room all goes on."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.faults.conftest import Besiege, prepare
from tests.faults.disk import Disk, small_disk
from tests.faults.engine import Engine, engine_on
from tests.faults.siege import ROUNDS, Siege
from tests.world import wait_until

TABLES = 64

# A new cluster takes 25 MB, its first WAL 16, each further file of it 16 more.
EVERYTHING = 160

# 200 MB of log that says nothing.
BALLAST = """
    select pg_logical_emit_message(false, 'ballast', repeat('x', 1000000)) from generate_series(1, 200)
"""


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    with small_disk(request.param) as mounted:
        if mounted is None:
            pytest.skip("a small disk can only be mounted by root, on Linux, where mount is allowed")
        yield mounted


@pytest.mark.parametrize("disk", [TABLES], indirect=True)
async def test_nothing_is_lost_when_the_disk_of_the_tables_is_full(
    besiege: Besiege, durable: Engine, disk: Disk
) -> None:
    """SQLSTATE 53100: the sender is asked to come again."""
    async with durable.connected("postgres") as admin:
        await admin.execute(f"create tablespace small location '{disk.folder / 'postgres'}'")
        async with besiege("disk of the tables full", tablespace="small") as siege:
            for _ in range(ROUNDS):
                await siege.pause(0.3, 0.6)
                disk.fill()
                siege.injected()
                await _refused(siege)
                disk.empty()
                await siege.services[0].ready()
        await admin.execute(f"drop database {siege.database} with (force)")
        await admin.execute("drop tablespace small")


@pytest.fixture
def cramped(disk: Disk, tmp_path: Path) -> Iterator[Engine]:
    """A server with all that it has on that disk."""
    with engine_on(disk.folder / "postgres" / "data", max_wal_size="32MB", min_wal_size="32MB") as engine:
        prepare(engine, tmp_path)
        yield engine


@pytest.mark.parametrize("disk", [EVERYTHING], indirect=True)
async def test_nothing_is_lost_when_there_is_no_room_for_the_wal(besiege: Besiege, cramped: Engine, disk: Disk) -> None:
    """PostgreSQL goes down when it cannot write its log; its owner makes room and starts it again."""
    async with besiege("disk of the WAL full", engine=cramped) as siege:
        await siege.pause(0.3, 0.6)
        disk.fill()
        siege.injected()
        async with cramped.connected("postgres") as admin:
            # What was put by for later is used up, so that the next byte needs a file that cannot be had.
            with pytest.raises((asyncpg.PostgresError, OSError)):
                await admin.fetch(BALLAST)
        await _refused(siege)
        disk.empty()
        await asyncio.to_thread(cramped.stop)  # it has ended itself, or is about to
        await asyncio.to_thread(cramped.start)
        await siege.services[0].ready()


async def _refused(siege: Siege) -> None:
    """Wait until the full disk has been met, not only looked at."""
    before = len(siege.sender.answers)
    await wait_until(lambda: sum(answer.status == 503 for answer in siege.sender.answers[before:]) > 20, 30)
    assert await siege.services[0].answers("/healthz") == 200
