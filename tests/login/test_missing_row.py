"""POST /sync creates a missing row from Clerk, or responds with 503 if that is impossible."""

import json
import time

import pytest
from starlette.responses import JSONResponse, Response

from sync_service.dsn import clean_dsn
from sync_service.mapping.table import TableMapping
from tests.clerk_stub import ClerkStub
from tests.conftest import Output, Serve
from tests.problems import read_problem_code
from tests.sync_requests import age_identities, build_settings, post_sync, post_sync_as_backend, read_outcome
from tests.world import T1, World, make_email_fields, make_event

NOW = int(time.time() * 1000)


async def test_the_first_login_makes_the_row(world: World, clerk: ClerkStub) -> None:
    """A1: and the app can refer to it at once."""
    clerk.add_user("user_1", **make_email_fields("a"))
    response = await post_sync(world)
    assert await read_outcome(response) == "created"
    row = response.json()["user"]
    assert row == await world.get_user("user_1")
    assert (row["id"], row["email"]) == ("user_1", "a.PII_SENTINEL@example.com")
    await world.db.execute("create table child (user_id text references users)")
    await world.db.execute("insert into child values ($1)", row["id"])
    assert await read_outcome(post_sync(world)) == "current"
    assert clerk.user_calls == 1
    assert clerk.versions == {"2026-05-12"}


async def test_a_webhook_after_the_login_finds_all_done(world: World, clerk: ClerkStub, output: Output) -> None:
    """A4."""
    clerk.add_user("user_1", T1)
    assert await read_outcome(post_sync(world)) == "created"
    body = make_event("user.created", "user_1", T1) | {"data": clerk.users["user_1"]}
    assert await world.deliver_ok(body) == "applied"
    assert await world.db.fetchval("select created_by from clerk_sync.identities") == "login"
    assert len(await world.get_users()) == 1
    assert "duplicate" not in json.dumps(output.log())


@pytest.mark.parametrize("trouble", ["500", "timeout", "429", "refused", "garbage", "another user", "away"])
async def test_without_clerk_a_row_that_is_missing_stays_missing(
    serve: Serve, clerk: ClerkStub, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A5, and other ways in which Clerk gives no answer that can be used."""
    monkeypatch.setattr("sync_service.clerk.api.ASK_SECONDS", 0.3)
    changes = {}
    match trouble:
        case "500":
            clerk.error_status = 500
        case "timeout":
            clerk.delay = 1
        case "429":
            clerk.error_response = JSONResponse({"errors": []}, 429, {"Retry-After": "2"})
        case "garbage":
            clerk.error_response = Response(b"[" * 5000)
        case "another user":
            clerk.add_user("user_2")
            clerk.users["user_1"] = clerk.users["user_2"]
        case "refused":
            changes = {"clerk_secret_key": "sk_test_another"}
        case _:
            changes = {"clerk_api_url": "http://127.0.0.1:9"}
    async with serve(**build_settings(clerk, **changes)) as world:
        began = time.perf_counter()
        response = await post_sync(world)
        assert (response.status_code, read_problem_code(response)) == (503, "clerk_unavailable")
        assert time.perf_counter() - began < 3
        assert int(response.headers["retry-after"]) >= (2 if trouble == "429" else 1)
        assert await world.get_users() == []
        # And from the database, where there is a row.
        await world.deliver_ok(make_event("user.created", "user_1"))
        assert await read_outcome(post_sync(world)) == "current"
        await age_identities(world.db)
        assert await read_outcome(post_sync(world)) == "unverified"
        assert await read_outcome(post_sync(world, query="?refresh=true")) == "unverified"


async def test_a_key_that_clerk_refuses_is_named_in_the_log_and_nowhere_else(
    serve: Serve, clerk: ClerkStub, output: Output
) -> None:
    async with serve(**build_settings(clerk, clerk_secret_key="sk_test_another")) as world:
        response = await post_sync(world)
        assert response.status_code == 503
        assert "CLERK" not in response.text
    [line] = output.log("Clerk refuses the key")
    assert line["setting"] == "CLERK_SECRET_KEY"


async def test_without_a_key_only_what_is_here_is_answered(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**build_settings(clerk, clerk_secret_key=None)) as world:
        response = await post_sync(world)
        assert (response.status_code, read_problem_code(response)) == (503, "clerk_unavailable")
        await world.deliver_ok(make_event("user.created", "user_1"))
        assert await read_outcome(post_sync(world)) == "current"
        await age_identities(world.db)
        assert await read_outcome(post_sync(world)) == "unverified"


async def test_the_database_away_is_a_503(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**build_settings(clerk), database=clean_dsn("postgresql://u@127.0.0.1:9/x")) as world:
        response = await post_sync(world)
        assert (response.status_code, read_problem_code(response)) == (503, "unavailable")
        assert "retry-after" in response.headers


async def test_a_table_that_the_mapping_does_not_fit_is_a_503(serve: Serve, clerk: ClerkStub) -> None:
    """J5: with the name in the log, and none in the response."""
    clerk.add_user("user_1")
    mapping = TableMapping(clerk_id="clerk_user_id")
    async with serve(**build_settings(clerk, mapping=mapping)) as world:
        response = await post_sync(world)
        assert (response.status_code, read_problem_code(response)) == (503, "unavailable")
        assert "clerk_user_id" not in response.text
        assert (await post_sync_as_backend(world)).status_code == 503


async def test_a_row_that_the_table_refuses_is_a_503_and_told(world: World, clerk: ClerkStub, output: Output) -> None:
    clerk.add_user("user_1")
    await world.db.execute("alter table users add constraint refuses check (false) not valid")
    response = await post_sync(world)
    assert (response.status_code, read_problem_code(response)) == (503, "unavailable")
    assert output.log("not applied")[0]["constraint"] == "refuses"


async def test_a_row_that_the_app_removed_is_made_again(world: World, clerk: ClerkStub) -> None:
    clerk.add_user("user_1")
    assert await read_outcome(post_sync(world)) == "created"
    await world.db.execute("delete from users")
    assert await read_outcome(post_sync(world)) == "created"
    assert await world.get_user("user_1")


async def test_what_no_webhook_brought_is_told(world: World, clerk: ClerkStub, output: Output) -> None:
    """N3 in part: an endpoint that is dead is noticed at the first login. A sign-up of this moment is only a race."""
    clerk.add_user("user_now", NOW, created_at=int(time.time() * 1000))
    await post_sync(world, "user_now")
    assert not output.log("a login has brought what no webhook had")
    clerk.add_user("user_1")
    await post_sync(world)
    await post_sync(world)
    assert len(output.log("a login has brought what no webhook had")) == 1
    metrics = (await world.client.get("/metrics")).text
    assert "sync_service_missed_webhooks_total 1.0" in metrics
    assert 'sync_service_logins_total{outcome="created"} 2.0' in metrics
    assert 'sync_service_logins_total{outcome="current"} 1.0' in metrics
