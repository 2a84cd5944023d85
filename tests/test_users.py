"""GET /users/{clerk_id} and POST /users/resolve: from Clerk IDs to the app's rows and keys."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest

from sync_service.dsn import parse_dsn
from sync_service.mapping.table import TableMapping
from sync_service.postgres.pool import open_database
from sync_service.store.access import Store
from sync_service.store.identities import get_user_state, resolve_keys
from tests.clerk_stub import API_TOKEN, ClerkStub, make_bearer_header, make_session_token
from tests.conftest import Output, Serve
from tests.problems import read_problem_code
from tests.sync_requests import age_identities, build_settings
from tests.world import World, make_email_fields, make_event


@pytest.fixture
async def users_world(serve: Serve, clerk: ClerkStub) -> AsyncIterator[World]:
    """The service with one user and one deleted user."""
    async with serve(**build_settings(clerk)) as running:
        await running.deliver_ok(make_event("user.created", "user_1", **make_email_fields("a")))
        await running.deliver_ok(make_event("user.deleted", "user_2"))
        yield running
        assert clerk.requests == []  # a look-up makes no request to Clerk
        await running.check_invariants()


async def get_row(world: World, clerk_id: str, token: str = API_TOKEN) -> httpx2.Response:
    return await world.client.get(f"/users/{clerk_id}", headers=make_bearer_header(token))


async def resolve_ids(world: World, body: Any, token: str = API_TOKEN) -> httpx2.Response:
    sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
    return await world.client.post("/users/resolve", headers=make_bearer_header(token), **sent)


async def test_a_user_s_row_is_returned(users_world: World) -> None:
    response = await get_row(users_world, "user_1")
    assert response.status_code == 200
    assert response.json() == {"user": await users_world.get_user("user_1")}
    await age_identities(users_world.db)
    assert (await get_row(users_world, "user_1")).status_code == 200


WITHOUT_ROW = [
    ("user_2", (410, "deleted_user")),
    ("user_3", (404, "unknown_user")),
    ("%00", (404, "unknown_user")),
    ("user%201", (404, "unknown_user")),
    ("%ed%a0%80", (404, "unknown_user")),
    ("%27%20or%201=1--", (404, "unknown_user")),
    ("u" * 300, (404, "unknown_user")),
    ("a/b", (404, "not_found")),
]


async def test_without_a_row_the_response_is_a_404_or_410(users_world: World) -> None:
    for clerk_id, expected in WITHOUT_ROW:
        response = await get_row(users_world, clerk_id)
        assert (response.status_code, read_problem_code(response)) == expected


async def test_look_ups_need_the_service_token(users_world: World) -> None:
    for token in (make_session_token("user_1"), API_TOKEN[1:], "x"):
        assert (await get_row(users_world, "user_1", token)).status_code == 401
        response = await resolve_ids(users_world, {"clerk_ids": ["user_1"]}, token)
        assert (response.status_code, read_problem_code(response)) == (401, "bad_token")
    assert (await users_world.client.get("/users/user_1")).status_code == 401


async def test_many_ids_are_resolved_in_one_request(users_world: World) -> None:
    response = await resolve_ids(users_world, {"clerk_ids": ["user_1", "user_2", "user_3", "user_1"]})
    assert response.status_code == 200
    assert response.json() == {"users": {"user_1": "user_1"}, "missing": ["user_3"], "deleted": ["user_2"]}
    assert (await resolve_ids(users_world, {"clerk_ids": []})).json() == {"users": {}, "missing": [], "deleted": []}
    assert (await resolve_ids(users_world, {"clerk_ids": [f"user_{n}" for n in range(1000)]})).status_code == 200


INVALID_BODIES: list[Any] = [
    b"",
    b"x",
    b"[]",
    b"{}",
    b"\xff",
    b"[" * 100_000,
    {"clerk_ids": "user_1"},
    {"clerk_ids": None},
    {"clerk_ids": [7]},
    {"clerk_ids": [None]},
    {"clerk_ids": ["user_1\0"]},
    {"clerk_ids": [""]},
    b'{"clerk_ids": ["\\ud800"]}',
    {"clerk_ids": ["u" * 300]},
    {"clerk_ids": [f"user_{n}" for n in range(1001)]},
]


async def test_an_invalid_body_is_a_400(users_world: World, output: Output) -> None:
    for body in INVALID_BODIES:
        response = await resolve_ids(users_world, body)
        assert (response.status_code, read_problem_code(response)) == (400, "bad_request"), body
    assert not output.log("unhandled_exception")


async def test_body_and_method_are_limited(users_world: World) -> None:
    response = await resolve_ids(users_world, b" " * (1024 * 1024 + 1))
    assert (response.status_code, read_problem_code(response)) == (413, "body_too_large")
    assert (await users_world.client.put("/users/resolve")).status_code == 405


@pytest.mark.parametrize(
    ("kind", "value"), [("bigint generated always as identity", 1), ("uuid default gen_random_uuid()", None)]
)
async def test_the_app_s_key_keeps_its_type(database: str, db: asyncpg.Connection, kind: str, value: object) -> None:
    """The statements return a number as a number and a uuid as its text (J2)."""
    await db.execute(f"create table people (id {kind} primary key, clerk_user_id text unique)")
    key = await db.fetchval("insert into people (clerk_user_id) values ('user_1') returning id")
    pool = await open_database(parse_dsn(database))
    store = Store(pool, TableMapping(table="people", id_column="clerk_user_id"))
    async with store.acquire() as bound:
        [record] = await resolve_keys(bound, ["user_1"])
        state = await get_user_state(bound.connection, store.binding.lookups, "user_1")
    assert record["key"] == (str(value) if value else f'"{key}"')
    assert state.row
    assert '"clerk_user_id": "user_1"' in state.row
    await pool.aclose()
