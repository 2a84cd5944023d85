"""POST /sync creates a missing row from Clerk, or responds with 503 if that is impossible."""

import json
import time

import httpx2
import pytest
from starlette.responses import JSONResponse, Response

from sync_service.dsn import parse_dsn
from sync_service.mapping.table import TableMapping
from sync_service.web.limits import TimeLimits
from tests.clerk_stub import ClerkStub
from tests.conftest import Output, Serve
from tests.problems import read_problem_code
from tests.sync_requests import age_identities, build_settings, post_sync, post_sync_as_backend, read_outcome
from tests.world import T1, World, make_email_fields, make_event

NOW = int(time.time() * 1000)


async def test_the_first_login_creates_the_row(world: World, clerk: ClerkStub) -> None:
    """The first login creates the row, and a child table can refer to it at once (A1)."""
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


async def test_a_webhook_after_the_login_creates_no_second_row(world: World, clerk: ClerkStub, output: Output) -> None:
    """The webhook of a user that a login created is applied to the same row without a duplicate-key error (A4)."""
    clerk.add_user("user_1", T1)
    assert await read_outcome(post_sync(world)) == "created"
    body = make_event("user.created", "user_1", T1) | {"data": clerk.users["user_1"]}
    assert await world.deliver_ok(body) == "applied"
    assert await world.db.fetchval("select created_by from clerk_sync.identities") == "login"
    assert len(await world.get_users()) == 1
    assert "duplicate" not in json.dumps(output.log())


@pytest.mark.parametrize("failure", ["500", "429", "refused", "garbage", "another user", "unreachable"])
async def test_without_a_usable_response_of_clerk_a_missing_row_is_a_503(
    serve: Serve, clerk: ClerkStub, failure: str
) -> None:
    """Without a usable response of Clerk a missing row is a 503; an existing row is served as unverified (A5)."""
    changes = {}
    match failure:
        case "500":
            clerk.error_status = 500
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
        response = await check_missing_row_is_unavailable(world)
        assert int(response.headers["retry-after"]) >= (2 if failure == "429" else 1)
        await check_existing_row_is_served(world)


async def test_without_a_response_of_clerk_in_time_a_missing_row_is_a_503(serve: Serve, clerk: ClerkStub) -> None:
    """The service responds while its call to Clerk is still open (A5)."""
    with clerk.hold():
        async with serve(limits=TimeLimits(clerk_request=0.3), **build_settings(clerk)) as world:
            await check_missing_row_is_unavailable(world)
            assert clerk.open_calls == 1
            await check_existing_row_is_served(world)


async def check_missing_row_is_unavailable(world: World) -> httpx2.Response:
    response = await post_sync(world)
    assert (response.status_code, read_problem_code(response)) == (503, "clerk_unavailable")
    assert int(response.headers["retry-after"]) >= 1
    assert await world.get_users() == []
    return response


async def check_existing_row_is_served(world: World) -> None:
    await world.deliver_ok(make_event("user.created", "user_1"))
    assert await read_outcome(post_sync(world)) == "current"
    await age_identities(world.db)
    assert await read_outcome(post_sync(world)) == "unverified"
    assert await read_outcome(post_sync(world, query="?refresh=true")) == "unverified"


async def test_a_key_that_clerk_refuses_is_named_in_the_log_only(
    serve: Serve, clerk: ClerkStub, output: Output
) -> None:
    async with serve(**build_settings(clerk, clerk_secret_key="sk_test_another")) as world:
        response = await post_sync(world)
        assert response.status_code == 503
        assert "CLERK" not in response.text
    [line] = output.log("clerk_auth_failed")
    assert line["setting"] == "CLERK_SECRET_KEY"


async def test_without_a_key_only_existing_rows_are_served(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**build_settings(clerk, clerk_secret_key=None)) as world:
        response = await post_sync(world)
        assert (response.status_code, read_problem_code(response)) == (503, "clerk_unavailable")
        await world.deliver_ok(make_event("user.created", "user_1"))
        assert await read_outcome(post_sync(world)) == "current"
        await age_identities(world.db)
        assert await read_outcome(post_sync(world)) == "unverified"


async def test_an_unreachable_database_is_a_503(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**build_settings(clerk), database=parse_dsn("postgresql://u@127.0.0.1:9/x")) as world:
        response = await post_sync(world)
        assert (response.status_code, read_problem_code(response)) == (503, "unavailable")
        assert "retry-after" in response.headers


async def test_a_table_that_the_mapping_does_not_fit_is_a_503(serve: Serve, clerk: ClerkStub) -> None:
    """A mapping that does not fit the table is a 503 with a body that does not name the column (J5)."""
    clerk.add_user("user_1")
    mapping = TableMapping(id_column="clerk_user_id")
    async with serve(**build_settings(clerk, mapping=mapping)) as world:
        response = await post_sync(world)
        assert (response.status_code, read_problem_code(response)) == (503, "unavailable")
        assert "clerk_user_id" not in response.text
        assert (await post_sync_as_backend(world)).status_code == 503


async def test_a_row_that_the_table_refuses_is_a_409_and_logged(world: World, clerk: ClerkStub, output: Output) -> None:
    clerk.add_user("user_1")
    await world.db.execute("alter table users add constraint refuses check (false) not valid")
    response = await post_sync(world)
    assert (response.status_code, read_problem_code(response)) == (409, "row_refused")
    assert response.json()["reason"] == "check_violation"
    assert "users" not in response.text.replace("users table", "")
    assert output.log("login_failed")[0]["reason"] == "check_violation"
    assert output.log("not_applied")[0]["constraint"] == "refuses"


async def test_a_row_that_the_app_removed_is_created_again(world: World, clerk: ClerkStub) -> None:
    clerk.add_user("user_1")
    assert await read_outcome(post_sync(world)) == "created"
    await world.db.execute("delete from users")
    assert await read_outcome(post_sync(world)) == "created"
    assert await world.get_user("user_1")


async def test_a_missed_webhook_is_logged_and_counted(world: World, clerk: ClerkStub, output: Output) -> None:
    """Each user first created by a login is counted; the warning is only about older ones, not about races (N3)."""
    clerk.add_user("user_now", NOW, created_at=int(time.time() * 1000))
    await post_sync(world, "user_now")
    assert not output.log("missed_webhook")
    clerk.add_user("user_1")
    await post_sync(world)
    await post_sync(world)
    assert len(output.log("missed_webhook")) == 1
    metrics = (await world.client.get("/metrics")).text
    assert "sync_service_missed_webhooks_total 2.0" in metrics
    assert 'sync_service_logins_total{outcome="created"} 2.0' in metrics
    assert 'sync_service_logins_total{outcome="current"} 1.0' in metrics
