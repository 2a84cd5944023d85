"""Single flight: concurrent logins of one user share one request to Clerk, also across processes."""

import asyncio

from sync_service.web.limits import TimeLimits
from tests.clerk_stub import ClerkStub
from tests.conftest import Serve
from tests.problems import read_problem_code
from tests.sync_requests import build_settings, post_sync, read_outcome
from tests.world import T1, World, make_event, wait_until


async def test_logins_of_one_user_share_one_request(world: World, clerk: ClerkStub) -> None:
    """Twenty logins and the webhook at the same time make one request and one row (A2 in one process)."""
    clerk.delay = 0.1
    clerk.add_user("user_1", T1)
    webhook = world.deliver(make_event("user.created", "user_1", T1))
    responses = await asyncio.gather(*(post_sync(world) for _ in range(20)), webhook)
    assert {response.status_code for response in responses} == {200}
    assert {response.json()["user"]["id"] for response in responses[:-1]} == {"user_1"}
    assert clerk.user_calls == 1
    assert len(await world.get_users()) == 1


async def test_two_processes_share_one_request(serve: Serve, clerk: ClerkStub) -> None:
    """The lease in the database makes the second process wait for the first one's result."""
    clerk.delay = 0.2
    clerk.add_user("user_1")
    async with serve(**build_settings(clerk)) as one, serve(**build_settings(clerk)) as two:
        responses = await asyncio.gather(*(post_sync(world) for world in (one, two) for _ in range(5)))
        assert {await read_outcome(response) for response in responses} == {"created"}
        assert clerk.user_calls == 1
        assert await one.db.fetchval("select count(*) from clerk_sync.fetches") == 0


async def test_a_lease_of_a_dead_process_expires(world: World, clerk: ClerkStub) -> None:
    clerk.add_user("user_1")
    await world.db.execute("insert into clerk_sync.fetches values ('user_1', now() + interval '1 hour')")
    waiting = asyncio.create_task(post_sync(world))
    await asyncio.sleep(0.1)
    assert clerk.user_calls == 0
    await world.db.execute("update clerk_sync.fetches set expires_at = now()")
    assert await read_outcome(waiting) == "created"
    assert clerk.user_calls == 1


async def test_a_caller_that_disconnects_does_not_cancel_the_request(world: World, clerk: ClerkStub) -> None:
    clerk.add_user("user_1")
    with clerk.hold():
        leaving = asyncio.create_task(post_sync(world))
        await wait_until(lambda: clerk.open_calls)
        staying = asyncio.create_task(post_sync(world))
        await asyncio.sleep(0.05)
        leaving.cancel()
    assert await read_outcome(staying) == "created"
    assert clerk.user_calls == 1


async def test_a_caller_that_times_out_does_not_cancel_the_request(serve: Serve, clerk: ClerkStub) -> None:
    """The caller gets a 503 in time; the request to Clerk continues and its result serves the next login."""
    clerk.add_user("user_1")
    async with serve(limits=TimeLimits(response=0.5), **build_settings(clerk)) as world:
        with clerk.hold():
            response = await post_sync(world)
            assert (response.status_code, read_problem_code(response)) == (503, "unavailable")
            assert clerk.open_calls == 1
        await wait_until(lambda: world.get_user("user_1"))
        assert await read_outcome(post_sync(world)) == "current"
    assert clerk.user_calls == 1
