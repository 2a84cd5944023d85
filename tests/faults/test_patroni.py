"""Failover by Patroni with etcd: the machine of the primary server ends under load. `make faults` runs it."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.conftest import RunUnderFault, prepare
from tests.faults.fault_run import KILLS
from tests.faults.patroni import Cluster, run_cluster


@pytest.fixture
def cluster(tmp_path: Path, anyio_backend_name: str) -> Iterator[Cluster]:
    """A primary server and its synchronous standby under Patroni."""
    with run_cluster() as cluster:
        primary = asyncio.run(cluster.wait_until_synchronous())
        prepare(primary, tmp_path)
        yield cluster


@pytest.mark.skipif(KILLS <= 10, reason="a failover by Patroni takes half a minute; make faults runs it")
async def test_no_event_is_lost_when_patroni_promotes_the_standby(
    run_under_fault: RunUnderFault, cluster: Cluster, note_gap: Callable[[str, float], None]
) -> None:
    """Patroni waits for the end of the primary's lock in etcd (`ttl`), then promotes the standby."""
    killed, other = cluster.members
    async with run_under_fault(
        "Patroni: primary killed", engine=killed, build_dsn=cluster.build_dsn, services=2
    ) as run:
        await run.wait(1, 2)
        began = datetime.now(UTC)
        await asyncio.to_thread(killed.kill)
        run.count_injected()
        run.engine = other
        await asyncio.gather(*(service.wait_until_ready(60) for service in run.services))
        await run.wait(1, 2)
        note_gap("primary killed, standby promoted by Patroni", await run.measure_write_gap(began))
        killed.start()
        assert await cluster.wait_until_synchronous() is other
