"""Two services behind HAProxy, restarted one after the other under load, while a newer release migrates."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.faults.balancer import Balancer, run_haproxy
from tests.faults.conftest import RunUnderFault
from tests.faults.engine import Engine
from tests.faults.fault_run import KILLS, ROUNDS, FaultRun

# The migration of a newer release. It waits for the transactions of the older processes, and they wait for it.
MIGRATION = """
begin;
alter table clerk_sync.events add column newer text;
alter table clerk_sync.identities add column newer text;
insert into clerk_sync.migrations (version, name, checksum) values (9999, 'newer', 'x');
commit
"""


async def test_a_rolling_deployment_refuses_no_event(run_under_fault: RunUnderFault, tmp_path: Path) -> None:
    """Migrate, then replace one process after the other: no event gets a status other than 2xx."""
    async with run_under_fault("rolling deployment", services=2, start=False) as run:
        for service in run.services:
            service.start()
        for service in run.services:
            await service.wait_until_ready()
        with run_haproxy(run.services, tmp_path / "haproxy.log") as balancer:
            run.sender.urls = [f"{balancer.url}/webhooks/clerk"]
            run.start_load()
            await run.wait(1, 1.5)
            async with run.engine.connect(run.database) as db:
                await db.execute(MIGRATION)
            run.count_injected()
            for _ in range(ROUNDS):
                await restart_all(run, balancer)
            await run.finish_load()
            assert [result for result in run.sender.results if result.status != 200] == []


async def restart_all(run: FaultRun, balancer: Balancer) -> None:
    for number, service in enumerate(run.services, 1):
        await run.wait(0.2, 0.5)
        await balancer.drain(f"web{number}")
        assert await service.stop(signal.SIGTERM) == 0
        run.count_injected()
        service.start()
        await service.wait_until_ready()
        await balancer.readmit(f"web{number}")


@pytest.mark.skipif(KILLS <= 10, reason="the outage takes twenty seconds; make faults runs it")
async def test_without_a_database_the_services_respond_themselves(
    run_under_fault: RunUnderFault, durable: Engine, tmp_path: Path
) -> None:
    """HAProxy's own 503 has no Retry-After, and would last until its next check."""
    async with run_under_fault("behind HAProxy, PostgreSQL: kill -9") as run:
        with run_haproxy(run.services, tmp_path / "haproxy.log") as balancer:
            run.sender.urls = [f"{balancer.url}/webhooks/clerk"]
            await asyncio.to_thread(durable.kill)
            run.count_injected()
            await run.wait(1, 2)
            await asyncio.to_thread(durable.start)
            await run.finish_load()
            refused = [result for result in run.sender.results if result.status == 503]
            assert refused
            assert all('"code":"unavailable"' in result.text for result in refused)
