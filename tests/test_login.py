"""POST /sync: who signs in has a row, whatever becomes of webhooks and of Clerk (SCENARIOS A, F5, L1, L2)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import httpx2
import pytest
from starlette.responses import JSONResponse, Response

from sync_service.clerk.api import ClerkApi
from sync_service.clerk.breaker import Quota
from sync_service.dsn import clean_dsn
from sync_service.errors import ClerkUnavailable
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table import TableMapping
from sync_service.postgres.pool import open_pool
from sync_service.postgres.statements import Statements
from sync_service.sync.apply import Applier
from sync_service.sync.asking import Questions
from tests.clerk_stub import API_TOKEN, ISSUER, SECRET_KEY, ClerkStub, bearer, public_pem, session_token
from tests.conftest import Output, Serve
from tests.test_tokens import forged
from tests.test_webhooks import code
from tests.world import INSTANCE, T1, T2, T3, World, event, until, with_email

NOW = int(time.time() * 1000)


def settings_for(clerk: ClerkStub, **changes: Any) -> dict[str, Any]:
    """Return the settings of a service that may ask Clerk."""
    return {
        "clerk_secret_key": SECRET_KEY,
        "clerk_api_url": clerk.address,
        "clerk_jwt_key": public_pem(),
        "clerk_issuer": ISSUER,
        "sync_api_token": API_TOKEN,
        **changes,
    }


@pytest.fixture
async def signing_in(serve: Serve, clerk: ClerkStub) -> AsyncIterator[World]:
    """The service with Clerk behind it."""
    async with serve(**settings_for(clerk)) as running:
        yield running
        await running.check_invariants()


async def login(world: World, user_id: str = "user_1", query: str = "", **options: Any) -> httpx2.Response:
    """Call /sync as the user."""
    headers = bearer(session_token(user_id)) | options.pop("headers", {})
    return await world.client.post(f"/sync{query}", headers=headers, **options)


async def service_login(world: World, user_id: str = "user_1", query: str = "", **body: Any) -> httpx2.Response:
    """Call /sync as the app's backend."""
    return await world.client.post(f"/sync{query}", headers=bearer(API_TOKEN), json={"user_id": user_id, **body})


async def outcome(answer: httpx2.Response | Any) -> str:
    found = answer if isinstance(answer, httpx2.Response) else await answer
    assert found.status_code == 200, found.text
    return str(found.json()["outcome"])


async def age(db: asyncpg.Connection, how: str = "2 days") -> None:
    """Let what is known be that old."""
    await db.execute(f"update clerk_sync.identities set confirmed_at = confirmed_at - interval '{how}'")


# --- a missing row ------------------------------------------------------------------------------------------------


async def test_the_first_login_makes_the_row(signing_in: World, clerk: ClerkStub) -> None:
    """A1: and the app can refer to it at once."""
    clerk.knows("user_1", **with_email("a"))
    answer = await login(signing_in)
    assert await outcome(answer) == "created"
    row = answer.json()["user"]
    assert row == await signing_in.user("user_1")
    assert (row["id"], row["email"]) == ("user_1", "a.PII_SENTINEL@example.com")
    await signing_in.db.execute("create table child (user_id text references users)")
    await signing_in.db.execute("insert into child values ($1)", row["id"])
    assert await outcome(login(signing_in)) == "current"
    assert clerk.user_calls == 1
    assert clerk.versions == {"2026-05-12"}


async def test_a_webhook_after_the_login_finds_all_done(signing_in: World, clerk: ClerkStub, output: Output) -> None:
    """A4."""
    clerk.knows("user_1", T1)
    assert await outcome(login(signing_in)) == "created"
    body = event("user.created", "user_1", T1) | {"data": clerk.users["user_1"]}
    assert await signing_in.outcome(body) == "applied"
    assert await signing_in.db.fetchval("select created_by from clerk_sync.identities") == "login"
    assert len(await signing_in.users()) == 1
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
            clerk.fails = 500
        case "timeout":
            clerk.delay = 1
        case "429":
            clerk.fails_with = JSONResponse({"errors": []}, 429, {"Retry-After": "2"})
        case "garbage":
            clerk.fails_with = Response(b"[" * 5000)
        case "another user":
            clerk.knows("user_2")
            clerk.users["user_1"] = clerk.users["user_2"]
        case "refused":
            changes = {"clerk_secret_key": "sk_test_another"}
        case _:
            changes = {"clerk_api_url": "http://127.0.0.1:9"}
    async with serve(**settings_for(clerk, **changes)) as world:
        began = time.perf_counter()
        answer = await login(world)
        assert (answer.status_code, code(answer)) == (503, "clerk_unavailable")
        assert time.perf_counter() - began < 3
        assert int(answer.headers["retry-after"]) >= (2 if trouble == "429" else 1)
        assert await world.users() == []
        # And from the database, where there is a row.
        await world.outcome(event("user.created", "user_1"))
        assert await outcome(login(world)) == "current"
        await age(world.db)
        assert await outcome(login(world)) == "unverified"
        assert await outcome(login(world, query="?refresh=true")) == "unverified"


async def test_a_key_that_clerk_refuses_is_named_in_the_log_and_nowhere_else(
    serve: Serve, clerk: ClerkStub, output: Output
) -> None:
    async with serve(**settings_for(clerk, clerk_secret_key="sk_test_another")) as world:
        answer = await login(world)
        assert answer.status_code == 503
        assert "CLERK" not in answer.text
    [line] = output.log("clerk_auth_failed")
    assert line["setting"] == "CLERK_SECRET_KEY"


async def test_without_a_key_only_what_is_here_is_answered(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**settings_for(clerk, clerk_secret_key=None)) as world:
        answer = await login(world)
        assert (answer.status_code, code(answer)) == (503, "clerk_unavailable")
        await world.outcome(event("user.created", "user_1"))
        assert await outcome(login(world)) == "current"
        await age(world.db)
        assert await outcome(login(world)) == "unverified"


async def test_the_database_away_is_a_503(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**settings_for(clerk), database=clean_dsn("postgresql://u@127.0.0.1:9/x")) as world:
        answer = await login(world)
        assert (answer.status_code, code(answer)) == (503, "unavailable")
        assert "retry-after" in answer.headers


async def test_a_table_that_the_mapping_does_not_fit_is_a_503(serve: Serve, clerk: ClerkStub) -> None:
    """J5: with the name in the log, and none in the answer."""
    clerk.knows("user_1")
    mapping = TableMapping(clerk_id="clerk_user_id")
    async with serve(**settings_for(clerk, mapping=mapping)) as world:
        answer = await login(world)
        assert (answer.status_code, code(answer)) == (503, "unavailable")
        assert "clerk_user_id" not in answer.text
        assert (await service_login(world)).status_code == 503


async def test_a_row_that_the_table_refuses_is_a_503_and_told(
    signing_in: World, clerk: ClerkStub, output: Output
) -> None:
    clerk.knows("user_1")
    await signing_in.db.execute("alter table users add constraint refuses check (false) not valid")
    answer = await login(signing_in)
    assert (answer.status_code, code(answer)) == (503, "unavailable")
    assert output.log("not applied")[0]["constraint"] == "refuses"


async def test_a_row_that_the_app_removed_is_made_again(signing_in: World, clerk: ClerkStub) -> None:
    clerk.knows("user_1")
    assert await outcome(login(signing_in)) == "created"
    await signing_in.db.execute("delete from users")
    assert await outcome(login(signing_in)) == "created"
    assert await signing_in.user("user_1")


async def test_what_no_webhook_brought_is_told(signing_in: World, clerk: ClerkStub, output: Output) -> None:
    """N3 in part: an endpoint that is dead is noticed at the first login. A sign-up of this moment is only a race."""
    clerk.knows("user_now", NOW, created_at=int(time.time() * 1000))
    await login(signing_in, "user_now")
    assert not output.log("a login has brought what no webhook had")
    clerk.knows("user_1")
    await login(signing_in)
    await login(signing_in)
    assert len(output.log("a login has brought what no webhook had")) == 1
    metrics = (await signing_in.client.get("/metrics")).text
    assert "sync_service_missed_webhooks_total 1.0" in metrics
    assert 'sync_service_logins_total{outcome="created"} 2.0' in metrics
    assert 'sync_service_logins_total{outcome="current"} 1.0' in metrics


# --- fresh and old rows -------------------------------------------------------------------------------------------


async def test_a_fresh_row_asks_nothing_of_clerk(signing_in: World, clerk: ClerkStub) -> None:
    """A6: 1,000 calls, and none is one too many."""
    clerk.knows("user_1")
    await signing_in.outcome(event("user.created", "user_1"))
    token = bearer(session_token("user_1"))
    for _ in range(20):
        answers = await asyncio.gather(*(signing_in.client.post("/sync", headers=token) for _ in range(50)))
        assert {answer.json()["outcome"] for answer in answers} == {"current"}
    assert clerk.asked == []


async def test_an_old_row_is_renewed_at_once_if_clerk_is_quick(signing_in: World, clerk: ClerkStub) -> None:
    await signing_in.outcome(event("user.created", "user_1", T1))
    clerk.users["user_1"] = event("user.created", "user_1", T1)["data"]
    await age(signing_in.db)
    assert await outcome(login(signing_in)) == "current"
    assert clerk.user_calls == 1
    assert await outcome(login(signing_in)) == "current"  # Clerk has confirmed it
    assert clerk.user_calls == 1
    for _ in range(2):  # and confirms it again, though it has nothing new to say
        await age(signing_in.db)
        assert await outcome(login(signing_in)) == "current"
        assert await outcome(login(signing_in)) == "current"
    assert clerk.user_calls == 3
    await age(signing_in.db)
    clerk.knows("user_1", T2, first_name="Grace")
    answer = await login(signing_in)
    assert await outcome(answer) == "updated"
    assert answer.json()["user"]["first_name"] == "Grace"


async def test_an_old_row_is_answered_at_once_and_renewed_behind_the_answer(
    signing_in: World, clerk: ClerkStub
) -> None:
    await signing_in.outcome(event("user.created", "user_1", T1))
    await age(signing_in.db)
    clerk.knows("user_1", T2, first_name="Grace")
    clerk.delay = 0.5
    began = time.perf_counter()
    assert await outcome(login(signing_in)) == "unverified"
    assert time.perf_counter() - began < 0.4

    async def renewed() -> bool:
        row = await signing_in.user("user_1")
        return bool(row and row["first_name"] == "Grace")

    await until(renewed)
    assert await outcome(login(signing_in)) == "current"
    assert clerk.user_calls == 1


async def test_a_row_from_before_the_service_is_old(signing_in: World, clerk: ClerkStub) -> None:
    await signing_in.db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " values ('user_1', false, false, false, '{}')"
    )
    clerk.knows("user_1", first_name="Grace")
    assert await outcome(login(signing_in)) == "updated"


@pytest.mark.parametrize("how", ["?refresh=true", "?refresh=1"])
async def test_a_refresh_asks_clerk_though_the_row_is_fresh(signing_in: World, clerk: ClerkStub, how: str) -> None:
    await signing_in.outcome(event("user.created", "user_1", T1))
    clerk.users["user_1"] = event("user.created", "user_1", T1)["data"]
    assert await outcome(login(signing_in, query=how)) == "current"
    clerk.knows("user_1", T2, first_name="Grace")
    assert await outcome(login(signing_in, query=how)) == "updated"
    clerk.knows("user_1", T1, first_name="Old")  # Clerk may be a moment behind itself
    assert await outcome(login(signing_in, query=how)) == "current"
    assert clerk.user_calls == 3


async def test_how_old_a_row_may_be_is_a_setting(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**settings_for(clerk, sync_max_age=timedelta(minutes=1))) as world:
        clerk.knows("user_1")
        assert await outcome(login(world)) == "created"
        await age(world.db, "30 seconds")
        await login(world)
        assert clerk.user_calls == 1
        await age(world.db, "40 seconds")
        await login(world)
        assert clerk.user_calls == 2


# --- many at once -------------------------------------------------------------------------------------------------


async def test_logins_of_one_user_share_one_question(signing_in: World, clerk: ClerkStub) -> None:
    """A2 in one process: one question, one row, and the webhook in the middle of it."""
    clerk.delay = 0.1
    clerk.knows("user_1", T1)
    webhook = signing_in.deliver(event("user.created", "user_1", T1))
    answers = await asyncio.gather(*(login(signing_in) for _ in range(20)), webhook)
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["user"]["id"] for answer in answers[:-1]} == {"user_1"}
    assert clerk.user_calls == 1
    assert len(await signing_in.users()) == 1


async def test_two_processes_share_one_question(serve: Serve, clerk: ClerkStub) -> None:
    """The lease: the second waits for what the first is told."""
    clerk.delay = 0.2
    clerk.knows("user_1")
    async with serve(**settings_for(clerk)) as one, serve(**settings_for(clerk)) as two:
        answers = await asyncio.gather(*(login(world) for world in (one, two) for _ in range(5)))
        assert {await outcome(answer) for answer in answers} == {"created"}
        assert clerk.user_calls == 1
        assert await one.db.fetchval("select count(*) from clerk_sync.fetches") == 0


async def test_a_lease_that_its_holder_took_to_the_grave_ends(signing_in: World, clerk: ClerkStub) -> None:
    clerk.knows("user_1")
    await signing_in.db.execute("insert into clerk_sync.fetches values ('user_1', now() + interval '0.5 s')")
    began = time.perf_counter()
    assert await outcome(login(signing_in)) == "created"
    assert 0.4 < time.perf_counter() - began < 3


async def test_a_caller_who_leaves_does_not_take_the_question_along(signing_in: World, clerk: ClerkStub) -> None:
    clerk.delay = 0.3
    clerk.knows("user_1")
    leaving = asyncio.create_task(login(signing_in))
    await until(lambda: clerk.user_calls)
    staying = asyncio.create_task(login(signing_in))
    await asyncio.sleep(0.05)
    leaving.cancel()
    assert await outcome(staying) == "created"
    assert clerk.user_calls == 1


async def test_a_caller_whose_time_is_over_does_not_take_the_question_along(
    signing_in: World, clerk: ClerkStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer comes in time; what was asked for goes on behind it, and is there for the next."""
    monkeypatch.setattr("sync_service.web.deadline.RESPONSE_TIMEOUT", 0.2)
    clerk.delay = 0.5
    clerk.knows("user_1")
    answer = await login(signing_in)
    assert (answer.status_code, code(answer)) == (503, "unavailable")
    await until(lambda: signing_in.user("user_1"))
    assert await outcome(login(signing_in)) == "current"
    assert clerk.user_calls == 1


async def test_clerk_is_left_alone_once_it_has_failed_a_few_times(signing_in: World, clerk: ClerkStub) -> None:
    clerk.fails = 500
    for number in range(20):
        assert (await login(signing_in, f"user_{number}")).status_code == 503
    assert clerk.user_calls == 5
    assert await signing_in.db.fetchval("select count(*) from clerk_sync.fetches") == 0


async def test_the_breaker_closes_with_the_first_answer() -> None:
    """One question goes out after the pause; the others wait for what becomes of it."""
    now, status = [100.0], [500]
    asked = 0

    async def transport(request: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return httpx2.Response(status[0], json={"errors": []})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(transport)) as client:
        api = ClerkApi(client, "https://api.example", SECRET_KEY, clock=lambda: now[0])

        async def ask() -> bool:
            try:
                await api.user("user_1")
            except ClerkUnavailable:
                return False
            return True

        for _ in range(10):
            assert not await ask()
        assert asked == 5
        now[0] += 6
        assert await asyncio.gather(*(ask() for _ in range(10))) == [False] * 10
        assert asked == 6
        now[0] += 6
        status[0] = 404
        assert sorted(await asyncio.gather(*(ask() for _ in range(10)))) == [False] * 9 + [True]
        assert await asyncio.gather(*(ask() for _ in range(10))) == [True] * 10


async def test_a_connection_that_had_died_is_no_failure(clerk: ClerkStub) -> None:
    tries = 0

    async def transport(request: httpx2.Request) -> httpx2.Response:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise httpx2.RemoteProtocolError("Server disconnected")
        return httpx2.Response(404, json={"errors": []})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(transport)) as client:
        await ClerkApi(client, "https://api.example/v1", SECRET_KEY).user("user_1")
    assert tries == 2


# --- the deleted --------------------------------------------------------------------------------------------------


async def test_whom_clerk_does_not_know_is_unknown_and_nothing_is_written(signing_in: World, clerk: ClerkStub) -> None:
    """A8, first half: Clerk may be a moment behind, and a tombstone is for ever."""
    answer = await login(signing_in)
    assert (answer.status_code, code(answer)) == (404, "unknown_user")
    for table in ("users", "clerk_sync.identities", "clerk_sync.events", "clerk_sync.fetches"):
        assert await signing_in.db.fetchval(f"select count(*) from {table}") == 0
    clerk.knows("user_1")
    assert await outcome(login(signing_in)) == "created"


async def test_whom_clerk_does_not_know_any_more_is_deleted(signing_in: World, clerk: ClerkStub) -> None:
    """A8, second half: as by `user.deleted`. So soon after the webhook, Clerk is asked twice."""
    await signing_in.outcome(event("user.created", "user_1"))
    answer = await login(signing_in, query="?refresh=true")
    assert (answer.status_code, code(answer)) == (410, "deleted_user")
    assert clerk.user_calls == 2
    assert await signing_in.user("user_1") is None
    assert await signing_in.outcome(event("user.updated", "user_1", T3)) == "stale"
    filed = await signing_in.event("login_user_1")
    assert filed
    assert (filed["status"], filed["type"], filed["payload"]) == ("applied", "user.deleted", None)
    assert (await login(signing_in)).status_code == 410
    assert clerk.user_calls == 2


async def test_an_old_row_whose_user_is_gone_goes_at_once(serve: Serve, clerk: ClerkStub) -> None:
    """A8 by age alone: what nobody has confirmed for long is not asked about twice."""
    async with serve(**settings_for(clerk, sync_max_age=timedelta(0))) as world:
        await world.outcome(event("user.created", "user_1"))
        assert (await login(world)).status_code in {200, 410}  # 200 where this machine is slow
        await until(lambda: world.db.fetchval("select not exists (select from users)"))
        assert (await login(world)).status_code == 410
        assert clerk.user_calls == 1


async def test_a_row_that_nobody_told_of_is_deleted_too(signing_in: World, clerk: ClerkStub) -> None:
    await signing_in.db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " values ('user_1', false, false, false, '{}')"
    )
    assert (await login(signing_in)).status_code == 410
    assert await signing_in.user("user_1") is None


@pytest.mark.parametrize("kids", [("ins_another",), (INSTANCE,), ("key_1",)])
async def test_a_key_of_another_instance_deletes_nobody(
    signing_in: World, clerk: ClerkStub, output: Output, kids: tuple[str, ...]
) -> None:
    """The pinned instance is held against what the key's own key set says, before a 404 is believed."""
    await signing_in.outcome(event("user.created", "user_1"))
    await age(signing_in.db)
    clerk.kids = dict.fromkeys(kids, "clerk")
    answer = await login(signing_in, query="?refresh=true")
    if kids == ("ins_another",):
        assert await outcome(answer) == "unverified"
        assert await signing_in.user("user_1")
        assert output.log("Clerk does not know the user")[0]["setting"] == "CLERK_SECRET_KEY"
    else:
        assert answer.status_code == 410


async def test_a_404_that_is_not_clerk_s_deletes_nobody(signing_in: World, clerk: ClerkStub) -> None:
    """Of a proxy, or of whatever else CLERK_API_URL leads to."""
    await signing_in.outcome(event("user.created", "user_1"))
    await age(signing_in.db)
    for body in (b"", b"404 page not found", b'{"message": "no Route matched"}', b"null"):
        clerk.fails_with = Response(body, 404)
        assert await outcome(login(signing_in, query="?refresh=true")) == "unverified"
    assert await signing_in.user("user_1")
    assert (await login(signing_in, "user_2")).status_code == 404


@pytest.mark.parametrize("order", ["F3", "F4"])
@pytest.mark.parametrize("stale", [False, True])
async def test_a_login_does_not_bring_a_deleted_user_back(
    signing_in: World, clerk: ClerkStub, order: str, stale: bool
) -> None:
    """F5: whatever Clerk says."""
    life = [event("user.created", "user_1", T1), event("user.deleted", "user_1", T3)]
    for body in life if order == "F3" else reversed(life):
        await signing_in.deliver(body)
    if stale:
        clerk.knows("user_1", T3 + 60_000)
    for query in ("", "?refresh=true"):
        assert (await login(signing_in, query=query)).status_code == 410
        assert (await service_login(signing_in, query=query)).status_code == 410
    assert await signing_in.user("user_1") is None


async def test_a_deletion_in_the_middle_of_a_question_wins(signing_in: World, clerk: ClerkStub) -> None:
    """F5: a stale 200 of Clerk arrives after the webhook."""
    clerk.knows("user_1", T3)
    clerk.delay = 0.3
    asking = asyncio.create_task(login(signing_in))
    await until(lambda: clerk.user_calls)
    await signing_in.outcome(event("user.deleted", "user_1"))
    assert (await asking).status_code == 410
    assert await signing_in.user("user_1") is None


async def test_a_deletion_that_a_foreign_key_refuses_is_filed_and_finished(signing_in: World, clerk: ClerkStub) -> None:
    """410 also while it is parked; no message of Svix will come again for it, so the retries must know."""
    clerk.knows("user_1")
    await login(signing_in)
    await age(signing_in.db)
    await signing_in.db.execute("create table child (user_id text references users)")
    await signing_in.db.execute("insert into child values ('user_1')")
    clerk.forgets("user_1")
    assert (await login(signing_in, query="?refresh=true")).status_code == 410
    assert (await login(signing_in)).status_code == 410
    filed = await signing_in.event("login_user_1")
    assert filed
    assert (filed["status"], filed["reason"]) == ("failed", "foreign_key_violation")
    await signing_in.db.execute("drop table child")

    async def gone() -> bool:
        return await signing_in.user("user_1") is None

    await until(gone, 20)


# --- who may ------------------------------------------------------------------------------------------------------


async def test_forged_tokens_reach_neither_the_table_nor_clerk(serve: Serve, clerk: ClerkStub, output: Output) -> None:
    """L1."""
    clerk.knows("user_1")
    headers: list[dict[str, str]] = [
        *({"Authorization": f"Bearer {token}".strip()} for token in forged().values()),
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": session_token("user_1")},
        {"Authorization": f"Basic {session_token('user_1')}"},
        {"Cookie": f"__session={session_token('user_1')}"},
        {"X-Clerk-User-Id": "user_1"},
        bearer(API_TOKEN[:-1]),
        bearer(API_TOKEN + "x"),
    ]
    async with serve(**settings_for(clerk, clerk_instance_id=INSTANCE)) as world:
        for header in headers:
            for query in ("", "?refresh=true"):
                answer = await world.client.post(f"/sync{query}", headers=header)
                assert (answer.status_code, code(answer)) == (401, "bad_token"), header
                assert answer.headers["www-authenticate"] == "Bearer"
        assert clerk.asked == []
        assert await world.users() == []
        assert await world.db.fetchval("select count(*) from clerk_sync.fetches") == 0
        assert await outcome(login(world)) == "created"
    assert not output.log("bug")


async def test_a_session_token_touches_its_own_user_alone(signing_in: World, clerk: ClerkStub) -> None:
    """L2."""
    clerk.knows("user_1")
    clerk.knows("user_2")
    named: list[dict[str, Any]] = [
        {"json": {"user_id": "user_2"}},
        {"headers": {"X-Clerk-User-Id": "user_2"}},
        {"query": "?user_id=user_2"},
        {"json": {"user_id": "user_1"}, "headers": {"X-Clerk-User-Id": "user_2"}},
    ]
    for options in named:
        answer = await login(signing_in, **options)
        assert (answer.status_code, code(answer)) == (403, "wrong_user")
    assert clerk.asked == []
    assert await outcome(login(signing_in, json={"user_id": "user_1", "profile": {"first_name": "x"}})) == "created"
    assert [row[0] for row in await signing_in.users()] == ["user_1"]


async def test_the_app_s_backend_names_the_user(signing_in: World, clerk: ClerkStub) -> None:
    clerk.knows("user_1")
    assert await outcome(service_login(signing_in)) == "created"
    by_header = bearer(API_TOKEN) | {"X-Clerk-User-Id": "user_1"}
    assert await outcome(signing_in.client.post("/sync/", headers=by_header)) == "current"


async def test_without_a_service_token_no_backend_is_believed(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**settings_for(clerk, sync_api_token=None)) as world:
        for token in (API_TOKEN, "None", "x"):
            answer = await world.client.post("/sync", headers=bearer(token), json={"user_id": "user_1"})
            assert answer.status_code == 401


async def test_without_keys_no_session_is_believed(serve: Serve, clerk: ClerkStub, output: Output) -> None:
    async with serve(sync_api_token=API_TOKEN) as world:
        assert (await login(world)).status_code == 401
    [line] = output.log("no session token can be verified")
    assert "CLERK_PUBLISHABLE_KEY" in line["hint"]


async def test_a_session_of_another_instance_than_the_webhooks_is_refused(signing_in: World, clerk: ClerkStub) -> None:
    """H1 for tokens: the first event has pinned the instance."""
    clerk.knows("user_1")
    await signing_in.outcome(event("user.created", "user_1"))
    token = session_token("user_1", kid="ins_2otherotherotherotherother")
    answer = await signing_in.client.post("/sync", headers=bearer(token))
    assert (answer.status_code, code(answer)) == (401, "bad_token")
    assert await outcome(login(signing_in)) == "current"


NOBODY = [
    b"x",
    b"[]",
    b"7",
    b'{"user_id": 7}',
    b'{"user_id": ""}',
    b'{"user_id": "user 1"}',
    b'{"user_id": "user_1\\u0000"}',
    b'{"user_id": "\\ud800"}',
    b'{"user_id": "user_1", "profile": 7}',
    b'{"user_id": "user_1", "profile": {"first_name": 7}}',
    b'{"user_id": "user_1", "profile": {"id": "user_2"}}',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"user_id": "' + b"u" * 300 + b'"}',
    b"{}",
    b"",
]


async def test_a_body_that_names_nobody_is_a_400(signing_in: World, output: Output) -> None:
    for body in NOBODY:
        answer = await signing_in.client.post("/sync", headers=bearer(API_TOKEN), content=body)
        assert (answer.status_code, code(answer)) == (400, "bad_request"), body
    assert not output.log("bug")


async def test_bodies_and_methods_are_limited(signing_in: World) -> None:
    answer = await signing_in.client.post("/sync", headers=bearer(API_TOKEN), content=b" " * (1024 * 1024 + 1))
    assert (answer.status_code, code(answer)) == (413, "body_too_large")
    for method in ("GET", "PUT", "OPTIONS"):
        assert (await signing_in.client.request(method, "/sync")).status_code == 405
    answer = await login(signing_in, query="?refresh=perhaps")
    assert (answer.status_code, code(answer)) == (400, "bad_request")


async def test_ids_that_are_none_reach_no_address_of_clerk(signing_in: World, clerk: ClerkStub) -> None:
    for odd in ("../jwks", "..", "user_1/../../jwks", "user_1?x=1", "%2e%2e", "user_1#x"):
        assert (await service_login(signing_in, odd)).status_code == 404
    assert clerk.asked == []


# --- what the app says of a user ----------------------------------------------------------------------------------


async def test_a_profile_makes_a_missing_row_until_clerk_says_more(serve: Serve, clerk: ClerkStub) -> None:
    # However new it says that it is: whatever Clerk tells is newer.
    profile = {"first_name": "Ada PII_SENTINEL", "updated_at": T3, **with_email("a")}
    async with serve(**settings_for(clerk, clerk_secret_key=None)) as world:
        answer = await service_login(world, profile=profile)
        assert await outcome(answer) == "unverified"
        assert answer.json()["user"]["email"] == "a.PII_SENTINEL@example.com"
        assert await outcome(service_login(world, profile={"first_name": "Mallory"})) == "unverified"
        row = await world.user("user_1")
        assert row
        assert row["first_name"] == "Ada PII_SENTINEL"  # it never overwrites
        assert await world.outcome(event("user.created", "user_1", T1, first_name="Grace")) == "applied"
        assert await outcome(service_login(world, profile=profile)) == "current"
        await world.outcome(event("user.deleted", "user_1"))
        assert (await service_login(world, profile=profile)).status_code == 410
        assert await world.user("user_1") is None


async def test_a_profile_that_cannot_be_stored_is_the_caller_s_fault(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**settings_for(clerk, clerk_secret_key=None)) as world:
        answer = await service_login(world, profile={"first_name": "a\0b"})
        assert (answer.status_code, code(answer)) == (400, "bad_request")
        assert await world.users() == []


async def test_a_profile_means_nothing_where_clerk_can_be_asked(signing_in: World, clerk: ClerkStub) -> None:
    assert (await service_login(signing_in, profile={"first_name": "x"})).status_code == 404
    clerk.fails = 500
    assert (await service_login(signing_in, profile={"first_name": "x"})).status_code == 503
    assert await signing_in.users() == []


# --- how often ----------------------------------------------------------------------------------------------------


async def test_clerk_s_quota_is_protected(signing_in: World, clerk: ClerkStub) -> None:
    """Only what would reach Clerk is limited: ten questions about one user in ten seconds."""
    clerk.knows("user_1")
    for _ in range(10):
        await outcome(login(signing_in, query="?refresh=true"))
    answer = await login(signing_in, query="?refresh=true")
    assert (answer.status_code, code(answer)) == (429, "too_many_requests")
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert await outcome(login(signing_in)) == "current"
    await age(signing_in.db)
    assert await outcome(login(signing_in)) == "unverified"
    assert clerk.user_calls == 10
    clerk.knows("user_2")
    assert await outcome(login(signing_in, "user_2")) == "created"
    for _ in range(10):
        await login(signing_in, "user_3")
    assert (await login(signing_in, "user_3")).status_code == 429


# --- what only Clerk knows ----------------------------------------------------------------------------------------


async def test_of_two_contents_of_one_instant_clerk_says_which_is_right(signing_in: World, clerk: ClerkStub) -> None:
    """F7 and further: the row ends as Clerk has the user, by itself, whichever of the two that is."""
    for number, right in enumerate(("Ada", "Grace")):
        user = f"user_{number}"
        clerk.knows(user, T1, first_name=right)
        for name in ("Ada", "Grace"):
            await signing_in.deliver(event("user.updated", user, T1, first_name=name))

        async def shows(user: str = user, right: str = right) -> bool:
            row = await signing_in.user(user)
            wanted = await signing_in.db.fetchval(
                "select refetch_wanted from clerk_sync.identities where clerk_id = $1", user
            )
            return bool(row and row["first_name"] == right and not wanted)

        await until(shows)
        for name in ("Ada", "Grace"):
            await signing_in.deliver(event("user.updated", user, T1, first_name=name))
        assert await shows()


async def test_an_address_that_no_payload_has_is_asked_for(signing_in: World, clerk: ClerkStub) -> None:
    """A user whom a login has brought, with an address that another row still had."""
    await signing_in.outcome(event("user.created", "user_1", T2, **with_email("a")))
    clerk.knows("user_2", T1, **with_email("a"))
    answer = await login(signing_in, "user_2")
    assert await outcome(answer) == "created"
    assert answer.json()["user"]["email"] is None
    await signing_in.outcome(event("user.updated", "user_1", T3, **with_email("b")))
    await age(signing_in.db)
    assert await outcome(login(signing_in, "user_2")) == "updated"
    row = await signing_in.user("user_2")
    assert row
    assert row["email"] == "a.PII_SENTINEL@example.com"


# --- from a browser -----------------------------------------------------------------------------------------------

PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


async def test_no_browser_calls_from_elsewhere_unless_an_origin_is_authorized(
    signing_in: World, clerk: ClerkStub
) -> None:
    clerk.knows("user_1")
    origin = {"Origin": "https://app.example.com"}
    assert (await signing_in.client.options("/sync", headers=origin | PREFLIGHT)).status_code == 405
    answer = await login(signing_in, headers=origin)
    assert not any(name.startswith("access-control") for name in answer.headers)


async def test_an_authorized_party_that_is_an_origin_may_call_from_a_browser(serve: Serve, clerk: ClerkStub) -> None:
    clerk.knows("user_1")
    parties = ("https://app.example.com/", "com.example.native")
    async with serve(**settings_for(clerk, clerk_authorized_parties=parties)) as world:
        origin = {"Origin": "https://app.example.com"}
        answer = await world.client.options("/sync", headers=origin | PREFLIGHT)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "access-control-allow-credentials" not in answer.headers
        answer = await login(world, headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        # What is refused must be readable there too.
        answer = await world.client.post("/sync", headers=origin)
        assert (answer.status_code, code(answer)) == (401, "bad_token")
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        for path, headers in (("/sync", {"Origin": "https://mallory.example"}), ("/webhooks/clerk", origin)):
            answer = await world.client.options(path, headers=headers | PREFLIGHT)
            assert answer.status_code >= 400
            assert "access-control-allow-origin" not in answer.headers
        assert (await world.client.options("/sync")).status_code == 405
        assert (await world.client.get("/sync")).status_code == 405


async def test_the_background_asks_about_addresses_and_removes_old_leases(
    serve: Serve, clerk: ClerkStub, database: str
) -> None:
    """One round of it, without a login; a second one leaves Clerk alone for a while."""
    async with serve() as world:
        await world.outcome(event("user.created", "user_1", T2, **with_email("a")))
        await world.outcome(event("user.created", "user_2", T1, **with_email("a")))
        await world.db.execute("update clerk_sync.events set payload = null")
        await world.outcome(event("user.updated", "user_1", T3, **with_email("b")))
    await age(db := world.db)
    await db.execute("insert into clerk_sync.fetches values ('user_9', now() - interval '2 hours')")
    clerk.knows("user_2", T1, **with_email("a"))
    pool = await open_pool(clean_dsn(database))
    async with httpx2.AsyncClient() as client:
        api = ClerkApi(client, clerk.address, SECRET_KEY)
        applier = Applier(pool, Statements(DEFAULT))
        questions = Questions(applier, api, Quota(most=100), max_age=timedelta(hours=1))
        assert await questions.ask_about_doubts() == 1
        assert await db.fetchval("select email from users where id = 'user_2'") == "a.PII_SENTINEL@example.com"
        assert await db.fetchval("select count(*) from clerk_sync.fetches") == 0
        assert await questions.ask_about_doubts() == 0
        assert clerk.user_calls == 1
        # Nothing more than the quota gives, and nothing while Clerk fails.
        await db.execute("update clerk_sync.identities set refetch_wanted = true")
        clerk.fails = 500
        assert await questions.ask_about_doubts() == 0
        assert clerk.user_calls == 2
        await questions.close()
    await pool.close()
