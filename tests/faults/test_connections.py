"""What happens between the service and PostgreSQL: connections cut, slow, reset, black."""

import asyncio

from tests.faults.conftest import Besiege
from tests.faults.engine import Engine
from tests.faults.proxy import Proxy, proxied
from tests.faults.service import Service
from tests.faults.siege import KILLS, ROUNDS, Siege
from tests.world import wait_until

# Longer than an answer may take, so that one that waited for the end of it would be late.
LONG = 11


async def test_nothing_is_lost_when_connections_are_terminated(besiege: Besiege) -> None:
    async with besiege("pg_terminate_backend") as siege:
        await siege.terminate(KILLS * 3)


async def test_a_slow_network_is_only_slow(besiege: Besiege, durable: Engine) -> None:
    async with proxied(durable.port) as proxy, besiege("network: 50 ms each way", port=proxy.port) as siege:
        proxy.delay = 0.05
        siege.injected()
        await siege.pause(2, 3)
        assert not siege.sender.refused()
        proxy.pass_all()


async def test_nothing_is_lost_when_the_network_cuts_and_resets(besiege: Besiege, durable: Engine) -> None:
    async with proxied(durable.port) as proxy, besiege("network: cut and reset", port=proxy.port) as siege:
        for turn in range(KILLS * 3):
            await siege.pause(0, 0.3)
            siege.injected(proxy.cut(reset=turn % 2 == 1))
        assert siege.figures.injected


async def test_a_commit_of_which_no_word_comes_back_is_not_done_twice(besiege: Besiege, durable: Engine) -> None:
    """PostgreSQL has committed, the connection breaks before it can say so: nobody knows, and Svix sends again."""
    async with proxied(durable.port) as proxy, besiege("network: answers lost", port=proxy.port) as siege:
        for _ in range(KILLS * 2):
            await siege.pause(0, 0.3)
            proxy.swallow(requests=False)
            await siege.pause(0.05, 0.2)
            siege.injected(proxy.cut(reset=True))
            proxy.pass_all()
        assert siege.figures.injected


async def test_a_network_that_swallows_everything_delays_no_answer(besiege: Besiege, durable: Engine) -> None:
    async with proxied(durable.port) as proxy, besiege("network: black hole", port=proxy.port) as siege:
        for _ in range(ROUNDS):
            await siege.pause(0.2, 0.5)
            proxy.swallow()
            siege.injected()
            await _outlast(siege)
            _lose(proxy)
            await siege.services[0].ready()


def _lose(proxy: Proxy) -> None:
    # What was swallowed stays so: the connections of that time end, new ones pass.
    proxy.cut()
    proxy.pass_all()


async def test_a_frozen_database_delays_no_answer(besiege: Besiege) -> None:
    """Every process of PostgreSQL is stopped: connections are accepted by the kernel, and nothing ever comes."""
    async with besiege("PostgreSQL: frozen") as siege:
        for _ in range(ROUNDS):
            await siege.pause(0.2, 0.5)
            await asyncio.to_thread(siege.engine.freeze)
            siege.injected()
            await _outlast(siege)
            siege.engine.thaw()
            await siege.services[0].ready()


async def _outlast(siege: Siege) -> None:
    [service] = siege.services
    _, alive, ready = await asyncio.gather(asyncio.sleep(LONG), service.answers("/healthz"), service.answers("/readyz"))
    assert (alive, ready) == (200, 503)


async def test_the_service_starts_while_the_database_is_away_and_recovers_by_itself(besiege: Besiege) -> None:
    """DB4, and uvicorn's trap: a start that waited for the database would end the service instead."""
    async with besiege("PostgreSQL: away at the start", started=False) as siege:
        [service] = siege.services
        await asyncio.to_thread(siege.engine.kill)
        siege.injected()
        service.start()
        await wait_until(lambda: _says_not_ready(service), 20)
        siege.attack()
        await siege.pause(1, 2)
        assert not siege.sender.acknowledged
        await asyncio.to_thread(siege.engine.start)
        await service.ready()


async def _says_not_ready(service: Service) -> bool:
    return await service.answers("/readyz") == 503
