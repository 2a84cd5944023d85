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


async def test_a_user_unknown_to_clerk_is_a_404_without_a_write(world: World, clerk: ClerkStub) -> None:
    """Clerk's API may lag behind, and a tombstone is permanent: a 404 for an unknown user writes no row (A8)."""
    response = await post_sync(world)
    assert (response.status_code, read_problem_code(response)) == (404, "unknown_user")
    for table in ("users", "clerk_sync.identities", "clerk_sync.events", "clerk_sync.fetches"):
        assert await world.db.fetchval(f"select count(*) from {table}") == 0
    clerk.add_user("user_1")
    assert await read_outcome(post_sync(world)) == "created"


async def test_a_user_that_clerk_has_deleted_is_deleted(world: World, clerk: ClerkStub) -> None:
    """A 404 for a known user deletes it as `user.deleted` does (A8). Soon after the webhook, Clerk is asked twice."""
    await world.deliver_ok(make_event("user.created", "user_1"))
    response = await post_sync(world, query="?refresh=true")
    assert (response.status_code, read_problem_code(response)) == (410, "deleted_user")
    assert clerk.user_calls == 2
    assert await world.get_user("user_1") is None
    assert await world.deliver_ok(make_event("user.updated", "user_1", T3)) == "stale"
    stored = await world.get_event("login_user_1")
    assert stored
    assert (stored["status"], stored["type"], stored["payload"]) == ("applied", "user.deleted", None)
    assert (await post_sync(world)).status_code == 410
    assert clerk.user_calls == 2


async def test_a_stale_row_of_a_deleted_user_is_deleted_after_one_request(serve: Serve, clerk: ClerkStub) -> None:
    """One 404 is enough for a row that was last confirmed long ago (A8)."""
    async with serve(**build_settings(clerk, sync_max_age=timedelta(0))) as world:
        await world.deliver_ok(make_event("user.created", "user_1"))
        assert (await post_sync(world)).status_code in {200, 410}  # 200 where this machine is slow
        await wait_until(lambda: world.db.fetchval("select not exists (select from users)"))
        assert (await post_sync(world)).status_code == 410
        assert clerk.user_calls == 1


async def test_a_row_that_the_service_does_not_know_is_not_deleted(world: World, clerk: ClerkStub) -> None:
    """The row may be of another instance, so a 404 for its ID deletes no row below it either."""
    await world.deliver_ok(make_event("user.created", "user_2"))
    await world.db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " values ('user_1', false, false, false, '{}')"
    )
    await check_no_row_is_deleted(world)


async def check_no_row_is_deleted(world: World, user_id: str = "user_1") -> None:
    before = await world.get_users(), await count_stored(world)
    for query in ("?refresh=true", "?refresh=true"):
        response = await post_sync_as_backend(world, user_id, query)
        assert (response.status_code, read_problem_code(response)) == (503, "clerk_unavailable")
        assert "retry-after" in response.headers
    assert (await world.get_users(), await count_stored(world)) == before


async def count_stored(world: World) -> list[int]:
    tables = ("events", "identities where deleted_at is null", "fetches")
    return [await world.db.fetchval(f"select count(*) from clerk_sync.{table}") for table in tables]


@pytest.mark.parametrize("kids", [("ins_another",), ("key_1",), ()])
async def test_a_key_that_is_not_of_the_pinned_instance_deletes_no_user(
    world: World, clerk: ClerkStub, output: Output, kids: tuple[str, ...]
) -> None:
    """The key set must name the pinned instance. A key set that names no instance is no permission."""
    await world.deliver_ok(make_event("user.created", "user_1"))
    await age_identities(world.db)
    clerk.kids = dict.fromkeys(kids, "clerk")
    await check_no_row_is_deleted(world)
    lines = output.log("clerk_key_of_other_instance")
    assert [line["setting"] for line in lines] == ["CLERK_SECRET_KEY"] * (2 if kids == ("ins_another",) else 0)
    if kids != ("ins_another",):  # the empty answer was not kept
        clerk.kids = {INSTANCE: "clerk"}
        assert (await post_sync(world, query="?refresh=true")).status_code == 410


async def test_without_a_known_instance_no_user_is_deleted(world: World, clerk: ClerkStub) -> None:
    """A fresh installation has no pinned instance, so its key may be of any."""
    body = make_event("user.created", "user_1")
    del body["instance_id"]
    await world.deliver_ok(body)
    await age_identities(world.db)
    await check_no_row_is_deleted(world)


async def test_a_configured_instance_confirms_the_key(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**build_settings(clerk, clerk_instance_id=INSTANCE)) as world:
        await world.deliver_ok(make_event("user.created", "user_1"))
        await age_identities(world.db)
        assert (await post_sync(world, query="?refresh=true")).status_code == 410
    async with serve(**build_settings(clerk, clerk_instance_id="ins_mine")) as world:
        await world.deliver_ok(make_event("user.created", "user_2") | {"instance_id": "ins_mine"})
        await age_identities(world.db)
        await check_no_row_is_deleted(world, "user_2")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"404 page not found",
        b'{"message": "no Route matched"}',
        b"null",
        b'{"errors": []}',
        b'{"errors": [{}]}',
        b'{"errors": [{"code": "not_found"}]}',
        b'{"errors": [{"code": "route_not_found"}], "clerk_trace_id": "x"}',
    ],
)
async def test_a_404_that_is_not_clerk_s_deletes_no_user(world: World, clerk: ClerkStub, body: bytes) -> None:
    """A 404 of a proxy, or of any other server behind CLERK_API_URL, deletes no user and says so of none."""
    await world.deliver_ok(make_event("user.created", "user_1"))
    await age_identities(world.db)
    clerk.error_response = Response(body, 404)
    await check_no_row_is_deleted(world)
    await check_no_row_is_deleted(world, "user_2")


@pytest.mark.parametrize("deleted_first", [False, True])
@pytest.mark.parametrize("stale", [False, True])
async def test_a_login_does_not_restore_a_deleted_user(
    world: World, clerk: ClerkStub, deleted_first: bool, stale: bool
) -> None:
    """A login of a deleted user is a 410, even while Clerk's API still returns the user (F5)."""
    life = [make_event("user.created", "user_1", T1), make_event("user.deleted", "user_1", T3)]
    for body in reversed(life) if deleted_first else life:
        await world.deliver(body)
    if stale:
        clerk.add_user("user_1", T3 + 60_000)
    for query in ("", "?refresh=true"):
        assert (await post_sync(world, query=query)).status_code == 410
        assert (await post_sync_as_backend(world, query=query)).status_code == 410
    assert await world.get_user("user_1") is None


async def test_a_deletion_during_the_request_to_clerk_wins(world: World, clerk: ClerkStub) -> None:
    """A stale 200 of Clerk that arrives after the deletion does not restore the user (F5)."""
    clerk.add_user("user_1", T3)
    with clerk.hold():
        waiting = asyncio.create_task(post_sync(world))
        await wait_until(lambda: clerk.open_calls)
        await world.deliver_ok(make_event("user.deleted", "user_1"))
    assert (await waiting).status_code == 410
    assert await world.get_user("user_1") is None


async def test_a_deletion_that_a_foreign_key_refuses_is_stored_and_retried(world: World, clerk: ClerkStub) -> None:
    """The response is 410 also while the deletion is parked.

    Svix sends no further message for such a deletion, so the inbox must contain an event to retry.
    """
    await world.deliver_ok(make_event("user.created", "user_1"))
    await age_identities(world.db)
    await world.db.execute("create table child (user_id text references users)")
    await world.db.execute("insert into child values ('user_1')")
    assert (await post_sync(world, query="?refresh=true")).status_code == 410
    assert (await post_sync(world)).status_code == 410
    stored = await world.get_event("login_user_1")
    assert stored
    assert (stored["status"], stored["reason"]) == ("failed", "foreign_key_violation")
    await world.db.execute("drop table child")

    async def is_deleted() -> bool:
        return await world.get_user("user_1") is None

    await wait_until(is_deleted, 20)
