"""Concurrent logins of one user share one request to Clerk, also across processes."""

import asyncio
import time

import pytest

from tests.clerk_stub import ClerkStub
from tests.conftest import Serve
from tests.problems import read_problem_code
from tests.sync_requests import build_settings, post_sync, read_outcome
from tests.world import T1, World, make_event, wait_until


async def test_logins_of_one_user_share_one_question(world: World, clerk: ClerkStub) -> None:
    """A2 in one process: one question, one row, and the webhook in the middle of it."""
    clerk.delay = 0.1
    clerk.add_user("user_1", T1)
    webhook = world.deliver(make_event("user.created", "user_1", T1))
    responses = await asyncio.gather(*(post_sync(world) for _ in range(20)), webhook)
    assert {response.status_code for response in responses} == {200}
    assert {response.json()["user"]["id"] for response in responses[:-1]} == {"user_1"}
    assert clerk.user_calls == 1
    assert len(await world.get_users()) == 1


async def test_two_processes_share_one_question(serve: Serve, clerk: ClerkStub) -> None:
    """The lease: the second waits for what the first is told."""
    clerk.delay = 0.2
    clerk.add_user("user_1")
    async with serve(**build_settings(clerk)) as one, serve(**build_settings(clerk)) as two:
        responses = await asyncio.gather(*(post_sync(world) for world in (one, two) for _ in range(5)))
        assert {await read_outcome(response) for response in responses} == {"created"}
        assert clerk.user_calls == 1
        assert await one.db.fetchval("select count(*) from clerk_sync.fetches") == 0


async def test_a_lease_that_its_holder_took_to_the_grave_ends(world: World, clerk: ClerkStub) -> None:
    clerk.add_user("user_1")
    await world.db.execute("insert into clerk_sync.fetches values ('user_1', now() + interval '0.5 s')")
    began = time.perf_counter()
    assert await read_outcome(post_sync(world)) == "created"
    assert 0.4 < time.perf_counter() - began < 3


async def test_a_caller_who_leaves_does_not_take_the_question_along(world: World, clerk: ClerkStub) -> None:
    clerk.delay = 0.3
    clerk.add_user("user_1")
    leaving = asyncio.create_task(post_sync(world))
    await wait_until(lambda: clerk.user_calls)
    staying = asyncio.create_task(post_sync(world))
    await asyncio.sleep(0.05)
    leaving.cancel()
    assert await read_outcome(staying) == "created"
    assert clerk.user_calls == 1


async def test_a_caller_whose_time_is_over_does_not_take_the_question_along(
    world: World, clerk: ClerkStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer comes in time; what was asked for goes on behind it, and is there for the next."""
    monkeypatch.setattr("sync_service.web.sync.ANSWER_SECONDS", 0.2)
    clerk.delay = 0.5
    clerk.add_user("user_1")
    response = await post_sync(world)
    assert (response.status_code, read_problem_code(response)) == (503, "unavailable")
    await wait_until(lambda: world.get_user("user_1"))
    assert await read_outcome(post_sync(world)) == "current"
    assert clerk.user_calls == 1
