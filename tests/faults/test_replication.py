"""Failover by promotion: the primary server ends, its synchronous standby takes over. No acknowledged event is lost."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sync_service.dsn import parse_dsn
from sync_service.postgres.pool import open_database
from tests.faults.conftest import RunUnderFault, prepare
from tests.faults.fault_run import KILLS, ROUNDS, FaultRun
from tests.faults.replication import Pair, run_pair
from tests.processes import run_here

# A frozen server is found by timeouts, which takes ten seconds.
WAYS = ["killed", "frozen"] if KILLS > 10 else ["killed"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A primary server and its standby."""
    folder = tmp_path_factory.mktemp("pair")
    with run_pair(folder) as pair:
        prepare(pair.primary, folder)
        yield pair


@pytest.mark.parametrize("way", WAYS)
async def test_no_event_is_lost_when_the_standby_is_promoted(
    run_under_fault: RunUnderFault, pair: Pair, note_gap: Callable[[str, float], None], tmp_path: Path, way: str
) -> None:
    """The service and the commands find the new primary server by themselves, without a restart."""
    async with run_under_fault(f"primary {way}", engine=pair.primary, build_dsn=pair.build_dsn) as run:
        for _ in range(ROUNDS):
            await run.wait(0.5, 1)
            note_gap(f"primary {way}, standby promoted", await fail_over(pair, run, way))
            check = run_here("migrate", "--check", cwd=tmp_path, DATABASE_URL=pair.build_dsn(run.database))
            assert check.returncode == 0
            if way == "frozen":
                await asyncio.to_thread(pair.standby.kill)
            await pair.add_standby()


async def fail_over(pair: Pair, run: FaultRun, way: str) -> float:
    """End the primary server and promote its standby; return the time without a commit.

    To its clients a frozen server is a machine without power: no response, and no closed connection.
    """
    began = datetime.now(UTC)
    await asyncio.to_thread(pair.primary.freeze if way == "frozen" else pair.primary.kill)
    run.count_injected()
    await pair.promote()
    run.engine = pair.primary
    [service] = run.services
    await service.wait_until_ready()
    await run.wait(*(6, 7) if way == "frozen" else (0.5, 1))
    return await run.measure_write_gap(began)


async def test_a_standby_that_does_not_respond_is_no_fault_of_an_event(pair: Pair) -> None:
    """The probe after a timeout waits for the standby, as the event did. Else it would park the event."""
    database = await open_database(parse_dsn(pair.build_dsn("template_migrated")))
    try:
        assert await database.can_write()
        pair.standby.freeze()
        assert not await database.can_write()
        pair.standby.thaw()
        assert await database.can_write()
    finally:
        pair.standby.thaw()
        await database.aclose()
