"""After repeated failures the client stops calling Clerk's API for a while."""

import asyncio

import httpx2

from sync_service.clerk.client import ClerkClient
from sync_service.errors import ClerkUnavailable
from tests.clerk_stub import SECRET_KEY, ClerkStub, make_error
from tests.sync_requests import post_sync
from tests.world import World


async def test_five_failures_stop_the_calls_to_clerk(world: World, clerk: ClerkStub) -> None:
    clerk.error_status = 500
    for number in range(20):
        assert (await post_sync(world, f"user_{number}")).status_code == 503
    assert clerk.user_calls == 5
    assert await world.db.fetchval("select count(*) from clerk_sync.fetches") == 0


async def test_one_successful_probe_closes_the_breaker() -> None:
    """After the pause one request probes Clerk's API; concurrent callers fail until it succeeds."""
    now, status = [100.0], [500]
    calls = 0

    async def transport(request: httpx2.Request) -> httpx2.Response:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.01)
        return httpx2.Response(status[0], json=make_error("resource_not_found", "not found"))

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(transport)) as client:
        api = ClerkClient(client, "https://api.example", SECRET_KEY, clock=lambda: now[0])

        async def is_available() -> bool:
            try:
                await api.get_user("user_1")
            except ClerkUnavailable:
                return False
            return True

        for _ in range(10):
            assert not await is_available()
        assert calls == 5
        now[0] += 6
        assert await asyncio.gather(*(is_available() for _ in range(10))) == [False] * 10
        assert calls == 6
        now[0] += 6
        status[0] = 404
        assert sorted(await asyncio.gather(*(is_available() for _ in range(10)))) == [False] * 9 + [True]
        assert await asyncio.gather(*(is_available() for _ in range(10))) == [True] * 10


async def test_a_dead_pooled_connection_is_retried(clerk: ClerkStub) -> None:
    attempts = 0

    async def transport(request: httpx2.Request) -> httpx2.Response:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise httpx2.RemoteProtocolError("Server disconnected")
        return httpx2.Response(404, json=make_error("resource_not_found", "not found"))

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(transport)) as client:
        await ClerkClient(client, "https://api.example/v1", SECRET_KEY).get_user("user_1")
    assert attempts == 2
