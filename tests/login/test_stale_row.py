"""POST /sync serves a fresh row from the database and refreshes a stale one from Clerk."""

import asyncio
import time
from datetime import timedelta

import pytest

from tests.clerk_stub import ClerkStub, make_bearer_header, make_session_token
from tests.conftest import Serve
from tests.sync_requests import age_identities, build_settings, post_sync, read_outcome
from tests.world import T1, T2, World, make_event, wait_until


async def test_a_fresh_row_asks_nothing_of_clerk(world: World, clerk: ClerkStub) -> None:
    """A6: 1,000 calls, and none is one too many."""
    clerk.add_user("user_1")
    await world.deliver_ok(make_event("user.created", "user_1"))
    token = make_bearer_header(make_session_token("user_1"))
    for _ in range(20):
        responses = await asyncio.gather(*(world.client.post("/sync", headers=token) for _ in range(50)))
        assert {response.json()["outcome"] for response in responses} == {"current"}
    assert clerk.requests == []


async def test_an_old_row_is_renewed_at_once_if_clerk_is_quick(world: World, clerk: ClerkStub) -> None:
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    clerk.users["user_1"] = make_event("user.created", "user_1", T1)["data"]
    await age_identities(world.db)
    assert await read_outcome(post_sync(world)) == "current"
    assert clerk.user_calls == 1
    assert await read_outcome(post_sync(world)) == "current"  # Clerk has confirmed it
    assert clerk.user_calls == 1
    for _ in range(2):  # and confirms it again, though it has nothing new to say
        await age_identities(world.db)
        assert await read_outcome(post_sync(world)) == "current"
        assert await read_outcome(post_sync(world)) == "current"
    assert clerk.user_calls == 3
    await age_identities(world.db)
    clerk.add_user("user_1", T2, first_name="Grace")
    response = await post_sync(world)
    assert await read_outcome(response) == "updated"
    assert response.json()["user"]["first_name"] == "Grace"


async def test_an_old_row_is_answered_at_once_and_renewed_behind_the_answer(world: World, clerk: ClerkStub) -> None:
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    await age_identities(world.db)
    clerk.add_user("user_1", T2, first_name="Grace")
    clerk.delay = 0.5
    began = time.perf_counter()
    assert await read_outcome(post_sync(world)) == "unverified"
    assert time.perf_counter() - began < 0.4

    async def renewed() -> bool:
        row = await world.get_user("user_1")
        return bool(row and row["first_name"] == "Grace")

    await wait_until(renewed)
    assert await read_outcome(post_sync(world)) == "current"
    assert clerk.user_calls == 1


async def test_a_row_from_before_the_service_is_old(world: World, clerk: ClerkStub) -> None:
    await world.db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " values ('user_1', false, false, false, '{}')"
    )
    clerk.add_user("user_1", first_name="Grace")
    assert await read_outcome(post_sync(world)) == "updated"


@pytest.mark.parametrize("how", ["?refresh=true", "?refresh=1"])
async def test_a_refresh_asks_clerk_though_the_row_is_fresh(world: World, clerk: ClerkStub, how: str) -> None:
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    clerk.users["user_1"] = make_event("user.created", "user_1", T1)["data"]
    assert await read_outcome(post_sync(world, query=how)) == "current"
    clerk.add_user("user_1", T2, first_name="Grace")
    assert await read_outcome(post_sync(world, query=how)) == "updated"
    clerk.add_user("user_1", T1, first_name="Old")  # Clerk may be a moment behind itself
    assert await read_outcome(post_sync(world, query=how)) == "current"
    assert clerk.user_calls == 3


async def test_how_old_a_row_may_be_is_a_setting(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**build_settings(clerk, sync_max_age=timedelta(minutes=1))) as world:
        clerk.add_user("user_1")
        assert await read_outcome(post_sync(world)) == "created"
        await age_identities(world.db, "30 seconds")
        await post_sync(world)
        assert clerk.user_calls == 1
        await age_identities(world.db, "40 seconds")
        await post_sync(world)
        assert clerk.user_calls == 2
