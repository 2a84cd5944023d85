"""GET /users/{clerk_id} and POST /users/resolve: from Clerk's IDs to the app's own rows."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest

from sync_service.dsn import clean_dsn
from sync_service.mapping.table import TableMapping
from sync_service.postgres.logins import look, resolve
from sync_service.postgres.pool import open_pool
from sync_service.postgres.statements import Statements
from tests.clerk_stub import API_TOKEN, ClerkStub, bearer, session_token
from tests.conftest import Output, Serve
from tests.test_login import age, settings_for
from tests.test_webhooks import code
from tests.world import World, event, with_email


@pytest.fixture
async def looking(serve: Serve, clerk: ClerkStub) -> AsyncIterator[World]:
    """The service, with one user there and one deleted."""
    async with serve(**settings_for(clerk)) as running:
        await running.outcome(event("user.created", "user_1", **with_email("a")))
        await running.outcome(event("user.deleted", "user_2"))
        yield running
        assert clerk.asked == []  # a look-up asks nobody
        await running.check_invariants()


async def get(world: World, clerk_id: str, token: str = API_TOKEN) -> httpx2.Response:
    return await world.client.get(f"/users/{clerk_id}", headers=bearer(token))


async def ask(world: World, body: Any, token: str = API_TOKEN) -> httpx2.Response:
    sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
    return await world.client.post("/users/resolve", headers=bearer(token), **sent)


async def test_one_user_s_row(looking: World) -> None:
    answer = await get(looking, "user_1")
    assert answer.status_code == 200
    assert answer.json() == {"user": await looking.user("user_1")}
    await age(looking.db)
    assert (await get(looking, "user_1")).status_code == 200


NOBODY = [
    ("user_2", (410, "deleted_user")),
    ("user_3", (404, "unknown_user")),
    ("%00", (404, "unknown_user")),
    ("user%201", (404, "unknown_user")),
    ("%ed%a0%80", (404, "unknown_user")),
    ("%27%20or%201=1--", (404, "unknown_user")),
    ("u" * 300, (404, "unknown_user")),
    ("a/b", (404, "not_found")),
]


async def test_nobody_by_that_id(looking: World) -> None:
    for clerk_id, expected in NOBODY:
        answer = await get(looking, clerk_id)
        assert (answer.status_code, code(answer)) == expected


async def test_look_ups_are_for_the_app_s_backend(looking: World) -> None:
    for token in (session_token("user_1"), API_TOKEN[1:], "x"):
        assert (await get(looking, "user_1", token)).status_code == 401
        answer = await ask(looking, {"clerk_ids": ["user_1"]}, token)
        assert (answer.status_code, code(answer)) == (401, "bad_token")
    assert (await looking.client.get("/users/user_1")).status_code == 401


async def test_many_users_keys_in_one_question(looking: World) -> None:
    answer = await ask(looking, {"clerk_ids": ["user_1", "user_2", "user_3", "user_1"]})
    assert answer.status_code == 200
    assert answer.json() == {"users": {"user_1": "user_1"}, "missing": ["user_3"], "deleted": ["user_2"]}
    assert (await ask(looking, {"clerk_ids": []})).json() == {"users": {}, "missing": [], "deleted": []}
    assert (await ask(looking, {"clerk_ids": [f"user_{n}" for n in range(1000)]})).status_code == 200


NO_QUESTIONS: list[Any] = [
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


async def test_a_question_that_is_none_is_a_400(looking: World, output: Output) -> None:
    for body in NO_QUESTIONS:
        answer = await ask(looking, body)
        assert (answer.status_code, code(answer)) == (400, "bad_request"), body
    assert not output.log("unhandled_exception")


async def test_questions_are_limited(looking: World) -> None:
    answer = await ask(looking, b" " * (1024 * 1024 + 1))
    assert (answer.status_code, code(answer)) == (413, "body_too_large")
    assert (await looking.client.put("/users/resolve")).status_code == 405


@pytest.mark.parametrize(
    ("kind", "value"), [("bigint generated always as identity", 1), ("uuid default gen_random_uuid()", None)]
)
async def test_the_app_s_key_keeps_its_type(database: str, db: asyncpg.Connection, kind: str, value: object) -> None:
    """J2 as far as the statements go: a number is a number, a uuid its text."""
    await db.execute(f"create table people (id {kind} primary key, clerk_user_id text unique)")
    key = await db.fetchval("insert into people (clerk_user_id) values ('user_1') returning id")
    statements = Statements(TableMapping(table="people", clerk_id="clerk_user_id"))
    pool = await open_pool(clean_dsn(database))
    [record] = await resolve(pool, statements, ["user_1"])
    assert record["key"] == (str(value) if value else f'"{key}"')
    found = await look(pool, statements, "user_1")
    assert found.row
    assert '"clerk_user_id": "user_1"' in found.row
    await pool.close()
