"""POST /sync serves a fresh row from the database and refreshes a stale one from Clerk."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import asyncpg
import pytest

from sync_service.mapping.fields import FieldSource
from sync_service.mapping.presets import DEFAULT
from tests.clerk_stub import ClerkStub, make_bearer_header, make_session_token
from tests.conftest import Serve
from tests.sync_requests import age_identities, build_settings, post_sync, read_outcome
from tests.world import T1, T2, T3, World, make_email_fields, make_event, wait_until


async def test_a_fresh_row_needs_no_call_to_clerk(world: World, clerk: ClerkStub) -> None:
    """200 logins of a user with a fresh row make no request to Clerk (A6)."""
    clerk.add_user("user_1")
    await world.deliver_ok(make_event("user.created", "user_1"))
    token = make_bearer_header(make_session_token("user_1"))
    for _ in range(4):
        responses = await asyncio.gather(*(world.client.post("/sync", headers=token) for _ in range(50)))
        assert {response.json()["outcome"] for response in responses} == {"current"}
    assert clerk.requests == []


async def test_a_stale_row_is_refreshed_before_the_response_if_clerk_is_fast(world: World, clerk: ClerkStub) -> None:
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    clerk.users["user_1"] = make_event("user.created", "user_1", T1)["data"]
    await age_identities(world.db)
    assert await read_outcome(post_sync(world)) == "current"
    assert clerk.user_calls == 1
    assert await read_outcome(post_sync(world)) == "current"  # Clerk confirmed the row
    assert clerk.user_calls == 1
    for _ in range(2):  # an unchanged user confirms the row again
        await age_identities(world.db)
        assert await read_outcome(post_sync(world)) == "current"
        assert await read_outcome(post_sync(world)) == "current"
    assert clerk.user_calls == 3
    await age_identities(world.db)
    clerk.add_user("user_1", T2, first_name="Grace")
    response = await post_sync(world)
    assert await read_outcome(response) == "updated"
    assert response.json()["user"]["first_name"] == "Grace"


async def test_a_stale_row_is_served_at_once_and_refreshed_after_the_response(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**build_settings(clerk)) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1))
        await age_identities(world.db)
        clerk.add_user("user_1", T2, first_name="Grace")
        with clerk.hold():
            assert await read_outcome(post_sync(world)) == "unverified"
            assert clerk.open_calls == 1

        async def is_refreshed() -> bool:
            row = await world.get_user("user_1")
            return bool(row and row["first_name"] == "Grace")

        await wait_until(is_refreshed)
        assert await read_outcome(post_sync(world)) == "current"
        assert clerk.user_calls == 1


async def test_a_row_older_than_the_service_is_stale(world: World, clerk: ClerkStub) -> None:
    await world.db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " values ('user_1', false, false, false, '{}')"
    )
    clerk.add_user("user_1", first_name="Grace")
    assert await read_outcome(post_sync(world)) == "updated"


@pytest.mark.parametrize("query", ["?refresh=true", "?refresh=1"])
async def test_a_refresh_calls_clerk_although_the_row_is_fresh(world: World, clerk: ClerkStub, query: str) -> None:
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    clerk.users["user_1"] = make_event("user.created", "user_1", T1)["data"]
    assert await read_outcome(post_sync(world, query=query)) == "current"
    clerk.add_user("user_1", T2, first_name="Grace")
    assert await read_outcome(post_sync(world, query=query)) == "updated"
    clerk.add_user("user_1", T1, first_name="Old")  # Clerk's API may lag behind its own webhooks
    assert await read_outcome(post_sync(world, query=query)) == "current"
    assert clerk.user_calls == 3


async def test_a_refresh_writes_the_response_of_clerk_although_its_time_did_not_change(
    serve: Serve, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """Clerk does not change `updated_at` with `last_active_at`."""
    await db.execute("alter table users add last_active_at timestamptz")
    columns = {**DEFAULT.columns, "last_active_at": FieldSource("last_active_at")}
    async with serve(**build_settings(clerk, mapping=replace(DEFAULT, columns=columns))) as world:
        for minute in (1, 3, 2, 4):
            clerk.add_user("user_1", T1, last_active_at=T1 + minute * 60_000)
            response = await post_sync(world, query="?refresh=true")
            active_at = datetime.fromisoformat(response.json()["user"]["last_active_at"])
            assert active_at.timestamp() * 1000 == T1 + minute * 60_000


@pytest.mark.parametrize("missing", [False, True])
async def test_a_refused_save_keeps_the_version(
    world: World, clerk: ClerkStub, db: asyncpg.Connection, missing: bool
) -> None:
    """After the refusal an old message is stale, so that it cannot overwrite a newer row."""
    await world.deliver_ok(make_event("user.created", "user_1", T2, first_name="New"))
    await world.deliver_ok(make_event("user.created", "user_2", T3, **make_email_fields("a")))
    if missing:
        await db.execute("delete from users where id = 'user_1'")
    else:
        await db.execute("update clerk_sync.identities set email_pending = true where clerk_id = 'user_1'")
    await age_identities(db)
    clerk.add_user("user_1", T2, first_name="Refused")
    await db.execute("alter table users add constraint refuses check (first_name <> 'Refused') not valid")
    await post_sync(world, query="?refresh=true")
    assert await db.fetchval("select version from clerk_sync.identities where clerk_id = 'user_1'") == T2
    assert await world.deliver_ok(make_event("user.updated", "user_1", T1, first_name="Old")) == "stale"
    await db.execute("alter table users drop constraint refuses")
    await age_identities(db)
    response = await post_sync(world, query="?refresh=true")
    assert response.json()["user"]["first_name"] == "Refused"


async def test_the_maximum_age_of_a_row_is_a_setting(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**build_settings(clerk, sync_max_age=timedelta(minutes=1))) as world:
        clerk.add_user("user_1")
        assert await read_outcome(post_sync(world)) == "created"
        await age_identities(world.db, "30 seconds")
        await post_sync(world)
        assert clerk.user_calls == 1
        await age_identities(world.db, "40 seconds")
        await post_sync(world)
        assert clerk.user_calls == 2
