"""POST /sync deletes the row of a user that Clerk has deleted, and never restores it."""

import asyncio
from datetime import timedelta

import pytest
from starlette.responses import Response

from tests.clerk_stub import ClerkStub
from tests.conftest import Output, Serve
from tests.problems import read_problem_code
from tests.sync_requests import age_identities, build_settings, post_sync, post_sync_as_backend, read_outcome
from tests.world import INSTANCE, T1, T3, World, make_event, wait_until


async def test_whom_clerk_does_not_know_is_unknown_and_nothing_is_written(world: World, clerk: ClerkStub) -> None:
    """A8, first half: Clerk may be a moment behind, and a tombstone is for ever."""
    response = await post_sync(world)
    assert (response.status_code, read_problem_code(response)) == (404, "unknown_user")
    for table in ("users", "clerk_sync.identities", "clerk_sync.events", "clerk_sync.fetches"):
        assert await world.db.fetchval(f"select count(*) from {table}") == 0
    clerk.add_user("user_1")
    assert await read_outcome(post_sync(world)) == "created"


async def test_whom_clerk_does_not_know_any_more_is_deleted(world: World, clerk: ClerkStub) -> None:
    """A8, second half: as by `user.deleted`. So soon after the webhook, Clerk is asked twice."""
    await world.deliver_ok(make_event("user.created", "user_1"))
    response = await post_sync(world, query="?refresh=true")
    assert (response.status_code, read_problem_code(response)) == (410, "deleted_user")
    assert clerk.user_calls == 2
    assert await world.get_user("user_1") is None
    assert await world.deliver_ok(make_event("user.updated", "user_1", T3)) == "stale"
    filed = await world.get_event("login_user_1")
    assert filed
    assert (filed["status"], filed["type"], filed["payload"]) == ("applied", "user.deleted", None)
    assert (await post_sync(world)).status_code == 410
    assert clerk.user_calls == 2


async def test_an_old_row_whose_user_is_gone_goes_at_once(serve: Serve, clerk: ClerkStub) -> None:
    """A8 by age alone: what nobody has confirmed for long is not asked about twice."""
    async with serve(**build_settings(clerk, sync_max_age=timedelta(0))) as world:
        await world.deliver_ok(make_event("user.created", "user_1"))
        assert (await post_sync(world)).status_code in {200, 410}  # 200 where this machine is slow
        await wait_until(lambda: world.db.fetchval("select not exists (select from users)"))
        assert (await post_sync(world)).status_code == 410
        assert clerk.user_calls == 1


async def test_a_row_that_nobody_told_of_is_deleted_too(world: World, clerk: ClerkStub) -> None:
    await world.db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " values ('user_1', false, false, false, '{}')"
    )
    assert (await post_sync(world)).status_code == 410
    assert await world.get_user("user_1") is None


@pytest.mark.parametrize("kids", [("ins_another",), (INSTANCE,), ("key_1",)])
async def test_a_key_of_another_instance_deletes_nobody(
    world: World, clerk: ClerkStub, output: Output, kids: tuple[str, ...]
) -> None:
    """The pinned instance is held against what the key's own key set says, before a 404 is believed."""
    await world.deliver_ok(make_event("user.created", "user_1"))
    await age_identities(world.db)
    clerk.kids = dict.fromkeys(kids, "clerk")
    response = await post_sync(world, query="?refresh=true")
    if kids == ("ins_another",):
        assert await read_outcome(response) == "unverified"
        assert await world.get_user("user_1")
        assert output.log("Clerk does not know the user")[0]["setting"] == "CLERK_SECRET_KEY"
    else:
        assert response.status_code == 410


async def test_a_404_that_is_not_clerk_s_deletes_nobody(world: World, clerk: ClerkStub) -> None:
    """Of a proxy, or of whatever else CLERK_API_URL leads to."""
    await world.deliver_ok(make_event("user.created", "user_1"))
    await age_identities(world.db)
    for body in (b"", b"404 page not found", b'{"message": "no Route matched"}', b"null"):
        clerk.error_response = Response(body, 404)
        assert await read_outcome(post_sync(world, query="?refresh=true")) == "unverified"
    assert await world.get_user("user_1")
    assert (await post_sync(world, "user_2")).status_code == 404


@pytest.mark.parametrize("order", ["F3", "F4"])
@pytest.mark.parametrize("stale", [False, True])
async def test_a_login_does_not_bring_a_deleted_user_back(
    world: World, clerk: ClerkStub, order: str, stale: bool
) -> None:
    """F5: whatever Clerk says."""
    life = [make_event("user.created", "user_1", T1), make_event("user.deleted", "user_1", T3)]
    for body in life if order == "F3" else reversed(life):
        await world.deliver(body)
    if stale:
        clerk.add_user("user_1", T3 + 60_000)
    for query in ("", "?refresh=true"):
        assert (await post_sync(world, query=query)).status_code == 410
        assert (await post_sync_as_backend(world, query=query)).status_code == 410
    assert await world.get_user("user_1") is None


async def test_a_deletion_in_the_middle_of_a_question_wins(world: World, clerk: ClerkStub) -> None:
    """F5: a stale 200 of Clerk arrives after the webhook."""
    clerk.add_user("user_1", T3)
    clerk.delay = 0.3
    asking = asyncio.create_task(post_sync(world))
    await wait_until(lambda: clerk.user_calls)
    await world.deliver_ok(make_event("user.deleted", "user_1"))
    assert (await asking).status_code == 410
    assert await world.get_user("user_1") is None


async def test_a_deletion_that_a_foreign_key_refuses_is_filed_and_finished(world: World, clerk: ClerkStub) -> None:
    """410 also while it is parked; no message of Svix will come again for it, so the retries must know."""
    clerk.add_user("user_1")
    await post_sync(world)
    await age_identities(world.db)
    await world.db.execute("create table child (user_id text references users)")
    await world.db.execute("insert into child values ('user_1')")
    clerk.remove_user("user_1")
    assert (await post_sync(world, query="?refresh=true")).status_code == 410
    assert (await post_sync(world)).status_code == 410
    filed = await world.get_event("login_user_1")
    assert filed
    assert (filed["status"], filed["reason"]) == ("failed", "foreign_key_violation")
    await world.db.execute("drop table child")

    async def gone() -> bool:
        return await world.get_user("user_1") is None

    await wait_until(gone, 20)
