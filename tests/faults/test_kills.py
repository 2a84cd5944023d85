"""Kills at random moments under load: of the service, of one of three processes, of PostgreSQL."""

import asyncio
import signal

import pytest

from tests.faults.conftest import RunUnderFault
from tests.faults.fault_run import KILLS, PARTS

in_parts = pytest.mark.parametrize("kills", PARTS, ids=[f"part{number}" for number in range(len(PARTS))])


@in_parts
async def test_no_event_is_lost_when_the_service_is_killed(run_under_fault: RunUnderFault, kills: int) -> None:
    """Before every other kill PostgreSQL is frozen, so that many requests are received but not committed (C2)."""
    async with run_under_fault("service: kill -9", ends_services=True) as run:
        [service] = run.services
        for turn in range(kills):
            await run.wait(0, 0.6)
            if turn % 2 == 0:
                run.engine.freeze()
                await run.wait(0.1, 0.4)
            assert await service.stop(signal.SIGKILL) == -signal.SIGKILL
            run.engine.thaw()
            run.count_injected()
            await run.wait(0, 0.1)
            service.start()
            await service.wait_until_ready()


@in_parts
async def test_no_event_is_lost_when_one_of_three_processes_is_killed(
    run_under_fault: RunUnderFault, kills: int
) -> None:
    """Events of one user reach three processes concurrently, and any of these may be killed."""
    async with run_under_fault("three services, one killed", services=3, ends_services=True) as run:
        for _ in range(kills):
            await run.wait(0.1, 0.6)
            service = run.rng.choice(run.services)
            await service.stop(signal.SIGKILL)
            run.count_injected()
            service.start()
            await service.wait_until_ready()


@in_parts
async def test_no_event_is_lost_when_postgresql_is_killed(run_under_fault: RunUnderFault, kills: int) -> None:
    """After kill -9 of all PostgreSQL processes the service keeps running, and each request gets a response (C1)."""
    async with run_under_fault("PostgreSQL: kill -9") as run:
        for _ in range(kills):
            await run.wait(0, 0.8)
            await asyncio.to_thread(run.engine.kill)
            run.count_injected()
            await run.wait(0, 0.5)
            assert await run.services[0].get_status("/healthz") == 200
            await asyncio.to_thread(run.engine.start)
            await run.services[0].wait_until_ready()


async def test_parked_events_are_applied_although_the_service_is_killed(
    run_under_fault: RunUnderFault,
) -> None:
    """Acknowledged events are retried by the restarted service, also after a kill during an attempt (C4)."""
    async with run_under_fault("a table that refuses, service: kill -9", ends_services=True) as run:
        [service] = run.services
        async with run.engine.connect(run.database) as db:
            await db.execute(REFUSE)
            for turn in range(4):
                await run.wait(0.5, 1)
                await service.stop(signal.SIGKILL)
                run.count_injected()
                if turn == 2:
                    assert await db.fetchval("select count(*) from clerk_sync.events where status = 'failed'")
                    await db.execute("drop trigger refuse on public.users")
                service.start()
                await service.wait_until_ready()


REFUSE = """
create function refuse() returns trigger language plpgsql as
$$ begin if hashtext(new.id) % 3 = 0 then raise exception 'no'; end if; return new; end $$;
create trigger refuse before insert or update on public.users for each row execute function refuse();
"""


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_stopping_service_finishes_running_requests(run_under_fault: RunUnderFault, workers: str) -> None:
    """After SIGTERM each running request is either 2xx and committed, or not 2xx; the exit status is 0 (C3)."""
    async with run_under_fault("service: SIGTERM", ends_services=True) as run:
        [service] = run.services
        service.environ["WEB_CONCURRENCY"] = workers
        for _ in range(1 + min(KILLS // 5, 9)):
            await run.wait(0.2, 0.8)
            assert await service.stop(signal.SIGTERM) == 0
            run.count_injected()
            service.start()
            await service.wait_until_ready()
