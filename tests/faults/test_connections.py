"""Faults between the service and PostgreSQL: connections terminated, slow, reset or silent."""

import asyncio

from tests.faults.conftest import RunUnderFault
from tests.faults.engine import Engine
from tests.faults.fault_run import KILLS, ROUNDS, FaultRun
from tests.faults.proxy import Proxy, run_proxy
from tests.faults.service import Service
from tests.world import wait_until

# Longer than the limit of a response, so that a response that waits for the end of the fault is late.
LONG = 11


async def test_no_event_is_lost_when_connections_are_terminated(run_under_fault: RunUnderFault) -> None:
    async with run_under_fault("pg_terminate_backend") as run:
        await run.terminate_connections(KILLS * 3)


async def test_a_slow_network_causes_no_errors(run_under_fault: RunUnderFault, durable: Engine) -> None:
    async with run_proxy(durable.port) as proxy, run_under_fault("network: 50 ms each way", port=proxy.port) as run:
        proxy.delay = 0.05
        run.count_injected()
        await run.wait(2, 3)
        assert not run.sender.find_refused_statuses()
        proxy.forward_all()


async def test_no_event_is_lost_when_the_network_cuts_and_resets(
    run_under_fault: RunUnderFault, durable: Engine
) -> None:
    async with run_proxy(durable.port) as proxy, run_under_fault("network: cut and reset", port=proxy.port) as run:
        for turn in range(KILLS * 3):
            await run.wait(0, 0.3)
            run.count_injected(proxy.abort_connections(reset=turn % 2 == 1))
        assert run.figures.injected


async def test_a_commit_without_a_response_is_not_repeated(run_under_fault: RunUnderFault, durable: Engine) -> None:
    """PostgreSQL commits, the connection breaks before its response, and Svix sends the event again."""
    async with run_proxy(durable.port) as proxy, run_under_fault("network: responses lost", port=proxy.port) as run:
        for _ in range(KILLS * 2):
            await run.wait(0, 0.3)
            proxy.hold(requests=False)
            await run.wait(0.05, 0.2)
            run.count_injected(proxy.abort_connections(reset=True))
            proxy.forward_all()
        assert run.figures.injected


async def test_a_silent_network_delays_no_response(run_under_fault: RunUnderFault, durable: Engine) -> None:
    async with run_proxy(durable.port) as proxy, run_under_fault("network: silent", port=proxy.port) as run:
        for _ in range(ROUNDS):
            await run.wait(0.2, 0.5)
            proxy.hold()
            run.count_injected()
            await _wait_out_fault(run)
            _drop_held_data(proxy)
            await run.services[0].wait_until_ready()


async def test_silent_connections_and_a_read_only_server_lose_no_event(
    run_under_fault: RunUnderFault, durable: Engine
) -> None:
    """A firewall forgets the open connections; later the server is demoted beneath them, and promoted again."""
    async with run_proxy(durable.port) as proxy, run_under_fault("silent, then demoted", port=proxy.port) as run:
        [service] = run.services
        for _ in range(ROUNDS):
            await run.wait(0.2, 0.5)
            run.count_injected(proxy.silence_connections())
            await service.wait_until_ready()
            await _make_read_only(run, is_read_only=True)
            run.count_injected()
            await wait_until(lambda: _is_not_ready(service))
            await run.wait(0.2, 0.5)
            await _make_read_only(run, is_read_only=False)
            await service.wait_until_ready()


async def _make_read_only(run: FaultRun, *, is_read_only: bool) -> None:
    """Change the open connections, too, as a demotion does."""
    async with run.engine.connect(run.database) as db:
        await db.execute(f"alter system set default_transaction_read_only = {is_read_only}")
        await db.execute("select pg_reload_conf()")


def _drop_held_data(proxy: Proxy) -> None:
    # The connections with held data end, and new ones are forwarded.
    proxy.abort_connections()
    proxy.forward_all()


async def test_a_frozen_database_delays_no_response(run_under_fault: RunUnderFault) -> None:
    """All processes of PostgreSQL are stopped: the kernel accepts connections, but no response follows."""
    async with run_under_fault("PostgreSQL: frozen") as run:
        for _ in range(ROUNDS):
            await run.wait(0.2, 0.5)
            await asyncio.to_thread(run.engine.freeze)
            run.count_injected()
            await _wait_out_fault(run)
            run.engine.thaw()
            await run.services[0].wait_until_ready()


async def _wait_out_fault(run: FaultRun) -> None:
    [service] = run.services
    _, alive, ready = await asyncio.gather(
        asyncio.sleep(LONG), service.get_status("/healthz"), service.get_status("/readyz")
    )
    assert (alive, ready) == (200, 503)


async def test_the_service_starts_without_the_database_and_recovers(run_under_fault: RunUnderFault) -> None:
    """The start does not wait for the database, since uvicorn would end the service after a failed start (DB4)."""
    async with run_under_fault("PostgreSQL: down at the start", start=False) as run:
        [service] = run.services
        await asyncio.to_thread(run.engine.kill)
        run.count_injected()
        service.start()
        await wait_until(lambda: _is_not_ready(service))
        run.start_load()
        await run.wait(1, 2)
        assert not run.sender.acknowledged
        await asyncio.to_thread(run.engine.start)
        await service.wait_until_ready()


async def _is_not_ready(service: Service) -> bool:
    return await service.get_status("/readyz") == 503
