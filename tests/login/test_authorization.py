"""POST /sync accepts session tokens for their own user, and the service token for any user."""

from typing import Any

from tests.clerk_stub import API_TOKEN, ClerkStub, make_bearer_header, make_session_token
from tests.conftest import Output, Serve
from tests.forged_tokens import forge_tokens
from tests.problems import read_problem_code
from tests.sync_requests import build_settings, post_sync, post_sync_as_backend, read_outcome
from tests.world import INSTANCE, World, make_event


async def test_forged_tokens_reach_neither_the_table_nor_clerk(serve: Serve, clerk: ClerkStub, output: Output) -> None:
    """A missing or invalid token is a 401 without a write and without a request to Clerk (L1)."""
    clerk.add_user("user_1")
    headers: list[dict[str, str]] = [
        *({"Authorization": f"Bearer {token}".strip()} for token in forge_tokens().values()),
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": make_session_token("user_1")},
        {"Authorization": f"Basic {make_session_token('user_1')}"},
        {"Cookie": f"__session={make_session_token('user_1')}"},
        {"X-Clerk-User-Id": "user_1"},
        make_bearer_header(API_TOKEN[:-1]),
        make_bearer_header(API_TOKEN + "x"),
    ]
    async with serve(**build_settings(clerk, clerk_instance_id=INSTANCE)) as world:
        for header in headers:
            for query in ("", "?refresh=true"):
                response = await world.client.post(f"/sync{query}", headers=header)
                assert (response.status_code, read_problem_code(response)) == (401, "bad_token"), header
                assert response.headers["www-authenticate"] == "Bearer"
        assert clerk.requests == []
        assert await world.get_users() == []
        assert await world.db.fetchval("select count(*) from clerk_sync.fetches") == 0
        assert await read_outcome(post_sync(world)) == "created"
    assert not output.log("unhandled_exception")


async def test_a_session_token_affects_its_own_user_only(world: World, clerk: ClerkStub) -> None:
    """A session token with another user's ID in body, header or query is a 403 (L2)."""
    clerk.add_user("user_1")
    clerk.add_user("user_2")
    named: list[dict[str, Any]] = [
        {"json": {"user_id": "user_2"}},
        {"headers": {"X-Clerk-User-Id": "user_2"}},
        {"query": "?user_id=user_2"},
        {"json": {"user_id": "user_1"}, "headers": {"X-Clerk-User-Id": "user_2"}},
    ]
    for options in named:
        response = await post_sync(world, **options)
        assert (response.status_code, read_problem_code(response)) == (403, "wrong_user")
    assert clerk.requests == []
    assert await read_outcome(post_sync(world, json={"user_id": "user_1", "profile": {"first_name": "x"}})) == "created"
    assert [row[0] for row in await world.get_users()] == ["user_1"]


async def test_the_app_s_backend_names_the_user(world: World, clerk: ClerkStub) -> None:
    clerk.add_user("user_1")
    assert await read_outcome(post_sync_as_backend(world)) == "created"
    by_header = make_bearer_header(API_TOKEN) | {"X-Clerk-User-Id": "user_1"}
    assert await read_outcome(world.client.post("/sync/", headers=by_header)) == "current"


async def test_without_a_configured_service_token_no_backend_is_accepted(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**build_settings(clerk, sync_api_token=None)) as world:
        for token in (API_TOKEN, "None", "x"):
            response = await world.client.post("/sync", headers=make_bearer_header(token), json={"user_id": "user_1"})
            assert response.status_code == 401


async def test_without_a_key_no_session_token_is_accepted(serve: Serve, clerk: ClerkStub, output: Output) -> None:
    """The startup and each refused token log the settings that are missing."""
    async with serve(sync_api_token=API_TOKEN) as world:
        assert (await post_sync(world)).status_code == 401
    [startup] = output.log("session_tokens_disabled")
    [refusal] = output.log("login_failed")
    for line in (startup, refusal):
        assert "CLERK_PUBLISHABLE_KEY" in line["hint"]


async def test_a_session_of_another_instance_than_the_webhooks_is_refused(world: World, clerk: ClerkStub) -> None:
    """The first event pins the instance; a session token of another instance is a 401 (H1)."""
    clerk.add_user("user_1")
    await world.deliver_ok(make_event("user.created", "user_1"))
    token = make_session_token("user_1", kid="ins_2otherotherotherotherother")
    response = await world.client.post("/sync", headers=make_bearer_header(token))
    assert (response.status_code, read_problem_code(response)) == (401, "bad_token")
    assert await read_outcome(post_sync(world)) == "current"
