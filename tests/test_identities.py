"""The SQL statements of a login: the user's state, its age, and the lease for a request to Clerk."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from sync_service.clerk.change import Deletion, Snapshot, Version
from sync_service.clerk.events import Event, parse_event
from sync_service.clerk.user import User
from sync_service.dsn import parse_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.pool import open_database
from sync_service.store import identities
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from tests.world import T1, T2, encode_body, make_event, make_message_id

pytestmark = pytest.mark.every_postgres


@pytest.fixture
async def applier(database: str) -> AsyncIterator[Applier]:
    pool = await open_database(parse_dsn(database))
    yield Applier(Store(pool, DEFAULT))
    await pool.aclose()


async def get_state(applier: Applier, clerk_id: str = "user_1") -> identities.UserState:
    async with applier.store.database.acquire() as connection:
        return await identities.get_user_state(connection, applier.store.binding.lookups, clerk_id)


def make_fetched_event(user_id: str, updated_at: int, name: str) -> Event:
    user = User(id=user_id, updated_at=updated_at, first_name=name)
    return Event(None, "login", None, user_id, Snapshot(user, Version.from_api(user)))


def make_webhook(event_type: str, updated_at: int = T1, first_name: str = "Ada") -> Event:
    return parse_event(
        make_message_id(), encode_body(make_event(event_type, "user_1", updated_at, first_name=first_name))
    )


async def test_one_statement_returns_the_whole_state(applier: Applier, db: asyncpg.Connection) -> None:
    assert await get_state(applier) == identities.UserState(None, False, False, False, None, None, None)
    await applier.apply([make_webhook("user.created")])
    await db.execute("insert into clerk_sync.instance (id) values ('ins_1')")
    state = await get_state(applier)
    assert state.row
    assert json.loads(state.row)["id"] == "user_1"
    assert (state.is_deleted, state.is_known, state.instance_id) == (False, True, "ins_1")
    assert state.age is not None
    assert 0 <= state.age < 5
    await applier.apply([make_webhook("user.deleted")])
    state = await get_state(applier)
    assert (state.row, state.is_deleted, state.is_known) == (None, True, False)


async def test_a_row_older_than_the_service_has_no_age(applier: Applier, db: asyncpg.Connection) -> None:
    await db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " values ('user_1', false, false, false, '{}')"
    )
    state = await get_state(applier)
    assert state.row
    assert (state.is_known, state.age) == (False, None)


async def test_the_statements_of_a_login_use_indexes_only(applier: Applier, db: asyncpg.Connection) -> None:
    await db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " select 'user_' || n, false, false, false, '{}' from generate_series(1, 5000) n"
    )
    await db.execute(
        "insert into clerk_sync.identities (clerk_id, version, tiebreak, created_by)"
        " select id, 1, '', 'webhook' from users"
    )
    await db.execute("analyze")
    queries = await applier.store.binding.ensure_bound(db)
    lookups = applier.store.binding.lookups
    for statement, argument in ((lookups.user_state, "user_7"), (queries.resolve_keys, ["user_7"])):
        plan = "\n".join(row[0] for row in await db.fetch(f"explain {statement}", argument))
        assert "Seq Scan on users" not in plan
        assert "Seq Scan on identities" not in plan


@pytest.mark.parametrize(("source", "confirmed"), [("webhook", True), ("login", True), ("profile", False)])
async def test_data_of_clerk_confirm_the_row_and_a_profile_does_not(
    applier: Applier, source: str, confirmed: bool
) -> None:
    await applier.with_source(source).apply([make_fetched_event("user_1", T1, "Ada")])
    assert ((await get_state(applier)).age is not None) == confirmed


async def test_a_replay_confirms_as_of_the_event_s_arrival(applier: Applier, db: asyncpg.Connection) -> None:
    old = make_webhook("user.created")
    await applier.apply([old])
    await db.execute("update clerk_sync.events set received_at = now() - interval '2 days'")
    await db.execute("delete from clerk_sync.identities")
    await applier.with_source("replay").apply([old])
    age = (await get_state(applier)).age
    assert age is not None
    assert age > 86_400


async def test_a_fetched_version_is_greater_than_a_webhook_s_of_the_same_timestamp(
    applier: Applier, db: asyncpg.Connection
) -> None:
    """Clerk's API has the current values; the row shows them in any order, and no further fetch is pending."""
    for first, second in (("Ada", "Grace"), ("Grace", "Ada")):
        await db.execute("delete from users; delete from clerk_sync.identities; delete from clerk_sync.events")
        await applier.apply([make_webhook("user.updated", T1, first)])
        await applier.with_source("login").apply([make_fetched_event("user_1", T1, second)])
        assert [o.outcome for o in await applier.apply([make_webhook("user.updated", T1, first)])] == ["stale"]
        # The fetched user of this test has only a part of the fields that `parse_event` parses.
        assert await db.fetchval("select first_name from users") == second
        assert not await db.fetchval("select refetch_pending from clerk_sync.identities")


async def test_a_webhook_equal_to_the_fetched_user_is_applied(applier: Applier) -> None:
    from_webhook = make_webhook("user.updated")
    assert isinstance(from_webhook.change, Snapshot)
    user = from_webhook.change.user
    from_api = Event(None, "login", None, "user_1", Snapshot(user, Version.from_api(user)))
    await applier.with_source("login").apply([from_api])
    assert [outcome.outcome for outcome in await applier.apply([from_webhook])] == ["applied"]


async def test_a_confirmation_is_valid_for_the_stored_version_only(applier: Applier, db: asyncpg.Connection) -> None:
    await applier.apply([make_webhook("user.updated", T2)])
    await db.execute("update clerk_sync.identities set confirmed_at = null")
    async with applier.store.database.acquire() as connection:
        await identities.confirm_version(connection, "user_1", T1)
        assert (await get_state(applier)).age is None
        await identities.confirm_version(connection, "user_1", T2)
    assert (await get_state(applier)).age is not None


async def test_a_row_that_the_app_removed_comes_back_with_the_next_snapshot(
    applier: Applier, db: asyncpg.Connection
) -> None:
    login = applier.with_source("login")
    for _ in range(2):
        await login.apply([make_fetched_event("user_1", T2, "Ada")])
        await db.execute("delete from users")
    await login.apply([make_fetched_event("user_1", T2, "Ada")])
    assert (await get_state(applier)).row


async def test_an_unchanged_user_from_clerk_writes_no_row(applier: Applier, db: asyncpg.Connection) -> None:
    login = applier.with_source("login")
    await login.apply([make_fetched_event("user_1", T2, "Ada")])
    before = await db.fetchval("select ctid::text || xmin::text from users")
    await login.apply([make_fetched_event("user_1", T2, "Ada")])
    assert await db.fetchval("select ctid::text || xmin::text from users") == before


async def test_a_later_response_of_clerk_replaces_one_of_the_same_time(
    applier: Applier, db: asyncpg.Connection
) -> None:
    """The digests order nothing here: the last response is the current state."""
    for name in ("Ada", "Grace", "Ada", "Edsger"):
        await applier.with_source("login").apply([make_fetched_event("user_1", T2, name)])
        assert await db.fetchval("select first_name from users") == name


async def test_a_lease_is_exclusive_and_expires(applier: Applier, db: asyncpg.Connection) -> None:
    async with applier.store.database.acquire() as one:
        until = await identities.acquire_lease(one, "user_1")
        assert until
        assert await identities.acquire_lease(one, "user_1") is None
        assert await identities.acquire_lease(one, "user_2")
        await db.execute("update clerk_sync.fetches set expires_at = now() - interval '1 ms'")
        other = await identities.acquire_lease(one, "user_1")
        assert other
        await identities.release_lease(one, "user_1", until)  # expired, so this releases no lease
        assert await identities.acquire_lease(one, "user_1") is None
        await identities.release_lease(one, "user_1", other)
        assert await identities.acquire_lease(one, "user_1")


async def test_one_of_many_concurrent_callers_gets_the_lease(applier: Applier) -> None:
    async def take() -> object:
        async with applier.store.database.acquire() as connection:
            return await identities.acquire_lease(connection, "user_1")

    assert sum(taken is not None for taken in await asyncio.gather(*(take() for _ in range(20)))) == 1
    assert timedelta(seconds=1) < identities.LEASE < timedelta(seconds=10)


async def test_many_clerk_ids_are_resolved_to_the_app_s_keys(applier: Applier) -> None:
    await applier.apply([make_webhook("user.created")])
    gone = Event(make_message_id(), "user.deleted", None, "user_2", Deletion("user_2"))
    await applier.apply([gone])
    async with applier.store.acquire() as bound:
        records = await identities.resolve_keys(bound, ["user_1", "user_2", "user_3"])
    assert [tuple(record) for record in records] == [
        ("user_1", '"user_1"', False),
        ("user_2", None, True),
        ("user_3", None, None),
    ]
