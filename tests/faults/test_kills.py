"""What is killed at random moments, under load: the service, one of three, PostgreSQL."""

import asyncio
import signal

import pytest

from tests.faults.conftest import Besiege
from tests.faults.siege import KILLS, PARTS

in_parts = pytest.mark.parametrize("kills", PARTS, ids=[f"part{number}" for number in range(len(PARTS))])


@in_parts
async def test_nothing_is_lost_when_the_service_is_killed(besiege: Besiege, kills: int) -> None:
    """C2. Every other time PostgreSQL stands still before it: then much has come, and nothing is committed."""
    async with besiege("service: kill -9", mortal=True) as siege:
        [service] = siege.services
        for turn in range(kills):
            await siege.pause(0, 0.6)
            if turn % 2 == 0:
                siege.engine.freeze()
                await siege.pause(0.1, 0.4)
            assert await service.end(signal.SIGKILL) == -signal.SIGKILL
            siege.engine.thaw()
            siege.injected()
            await siege.pause(0, 0.1)
            service.start()
            await service.ready()


@in_parts
async def test_nothing_is_lost_when_one_of_three_processes_after_the_other_is_killed(
    besiege: Besiege, kills: int
) -> None:
    """Events of one user reach three processes in the same moment, and any of them may be gone in the next."""
    async with besiege("three services, one killed", services=3, mortal=True) as siege:
        for _ in range(kills):
            await siege.pause(0.1, 0.6)
            service = siege.rng.choice(siege.services)
            await service.end(signal.SIGKILL)
            siege.injected()
            service.start()
            await service.ready()


@in_parts
async def test_nothing_is_lost_when_postgres_is_killed(besiege: Besiege, kills: int) -> None:
    """C1: kill -9 of the postmaster and all its children; the service stays, and each request gets its answer."""
    async with besiege("PostgreSQL: kill -9") as siege:
        for _ in range(kills):
            await siege.pause(0, 0.8)
            await asyncio.to_thread(siege.engine.kill)
            siege.injected()
            await siege.pause(0, 0.5)
            assert await siege.services[0].answers("/healthz") == 200
            await asyncio.to_thread(siege.engine.start)
            await siege.services[0].ready()


async def test_what_the_table_refuses_for_a_while_is_applied_in_the_end_though_the_service_is_killed(
    besiege: Besiege,
) -> None:
    """C4: parked, acknowledged, and tried again by whoever lives, also after a kill in the midst of an attempt."""
    async with besiege("a table that refuses, service: kill -9", mortal=True) as siege:
        [service] = siege.services
        async with siege.engine.connected(siege.database) as db:
            await db.execute(REFUSE)
            for turn in range(4):
                await siege.pause(0.5, 1)
                await service.end(signal.SIGKILL)
                siege.injected()
                if turn == 2:
                    assert await db.fetchval("select count(*) from clerk_sync.events where status = 'failed'")
                    await db.execute("drop trigger refuse on public.users")
                service.start()
                await service.ready()


REFUSE = """
create function refuse() returns trigger language plpgsql as
$$ begin if hashtext(new.id) % 3 = 0 then raise exception 'no'; end if; return new; end $$;
create trigger refuse before insert or update on public.users for each row execute function refuse();
"""


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_service_that_is_told_to_stop_finishes_what_it_has_begun(besiege: Besiege, workers: str) -> None:
    """C3, again and again: what is under way is answered and committed, or not answered 2xx; the end is orderly."""
    async with besiege("service: SIGTERM", mortal=True) as siege:
        [service] = siege.services
        service.environ["WEB_CONCURRENCY"] = workers
        for _ in range(1 + min(KILLS // 5, 9)):
            await siege.pause(0.2, 0.8)
            assert await service.end(signal.SIGTERM) == 0
            siege.injected()
            service.start()
            await service.ready()
