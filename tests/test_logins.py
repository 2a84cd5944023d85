"""The statements of a login: what is looked at, how fresh it is, who asks Clerk."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from sync_service.clerk.events import Event, read_event
from sync_service.clerk.values import Deletion, Snapshot, User, Version
from sync_service.dsn import clean_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres import logins
from sync_service.postgres.pool import open_pool
from sync_service.postgres.statements import Statements
from sync_service.sync.apply import Applier
from tests.world import T1, T2, encode_body, make_event, make_message_id


@pytest.fixture
async def applier(database: str) -> AsyncIterator[Applier]:
    pool = await open_pool(clean_dsn(database))
    yield Applier(pool, Statements(DEFAULT))
    await pool.close()


async def found(applier: Applier, clerk_id: str = "user_1") -> logins.Found:
    return await logins.look(applier.pool, applier.statements, clerk_id)


def fetched(user_id: str, updated_at: int, name: str) -> Event:
    user = User(id=user_id, updated_at=updated_at, first_name=name)
    return Event(None, "login", None, user_id, Snapshot(user, Version.fetched(user)))


def webhook(event_type: str, updated_at: int = T1, first_name: str = "Ada") -> Event:
    return read_event(
        make_message_id(), encode_body(make_event(event_type, "user_1", updated_at, first_name=first_name))
    )


async def test_one_look_tells_all_that_is_known(applier: Applier, db: asyncpg.Connection) -> None:
    assert await found(applier) == logins.Found(None, False, False, False, None, None, None)
    await applier.apply([webhook("user.created")])
    await db.execute("insert into clerk_sync.instance (id) values ('ins_1')")
    look = await found(applier)
    assert look.row
    assert json.loads(look.row)["id"] == "user_1"
    assert (look.deleted, look.known, look.instance_id) == (False, True, "ins_1")
    assert look.age is not None
    assert 0 <= look.age < 5
    await applier.apply([webhook("user.deleted")])
    look = await found(applier)
    assert (look.row, look.deleted, look.known) == (None, True, False)


async def test_a_row_that_was_there_before_the_service_has_no_age(applier: Applier, db: asyncpg.Connection) -> None:
    await db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " values ('user_1', false, false, false, '{}')"
    )
    look = await found(applier)
    assert look.row
    assert (look.known, look.age) == (False, None)


async def test_a_look_reads_by_indexes_only(applier: Applier, db: asyncpg.Connection) -> None:
    await db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " select 'user_' || n, false, false, false, '{}' from generate_series(1, 5000) n"
    )
    await db.execute(
        "insert into clerk_sync.identities (clerk_id, version, tie, created_by) select id, 1, '', 'webhook' from users"
    )
    await db.execute("analyze")
    await applier.statements.held_against(db)
    for statement, argument in ((applier.statements.look, "user_7"), (applier.statements.resolve, ["user_7"])):
        plan = "\n".join(row[0] for row in await db.fetch(f"explain {statement}", argument))
        assert "Seq Scan on users" not in plan
        assert "Seq Scan on identities" not in plan


@pytest.mark.parametrize(("source", "confirmed"), [("webhook", True), ("login", True), ("profile", False)])
async def test_what_clerk_said_is_confirmed_and_what_the_app_said_is_not(
    applier: Applier, source: str, confirmed: bool
) -> None:
    await applier.telling(source).apply([fetched("user_1", T1, "Ada")])
    assert ((await found(applier)).age is not None) == confirmed


async def test_a_replay_confirms_as_of_when_the_event_came(applier: Applier, db: asyncpg.Connection) -> None:
    old = webhook("user.created")
    await applier.apply([old])
    await db.execute("update clerk_sync.events set received_at = now() - interval '2 days'")
    await db.execute("delete from clerk_sync.identities")
    await applier.telling("replay").apply([old])
    age = (await found(applier)).age
    assert age is not None
    assert age > 86_400


async def test_what_clerk_answers_is_greater_than_what_was_told_of_the_same_instant(
    applier: Applier, db: asyncpg.Connection
) -> None:
    """Asked, Clerk says what is true; in any order the row shows that, and nothing waits to be asked again."""
    for first, second in (("Ada", "Grace"), ("Grace", "Ada")):
        await db.execute("truncate users, clerk_sync.identities, clerk_sync.events")
        await applier.apply([webhook("user.updated", T1, first)])
        await applier.telling("login").apply([fetched("user_1", T1, second)])
        assert [o.outcome for o in await applier.apply([webhook("user.updated", T1, first)])] == ["stale"]
        # `read_event` and the test's own user say the same, less the fields that they do not have.
        assert await db.fetchval("select first_name from users") == second
        assert not await db.fetchval("select refetch_wanted from clerk_sync.identities")


async def test_a_webhook_that_says_what_clerk_answered_is_applied(applier: Applier) -> None:
    told = webhook("user.updated")
    assert isinstance(told.change, Snapshot)
    user = told.change.user
    asked = Event(None, "login", None, "user_1", Snapshot(user, Version.fetched(user)))
    await applier.telling("login").apply([asked])
    assert [outcome.outcome for outcome in await applier.apply([told])] == ["applied"]


async def test_a_confirmation_is_of_the_version_that_is_there(applier: Applier, db: asyncpg.Connection) -> None:
    await applier.apply([webhook("user.updated", T2)])
    await db.execute("update clerk_sync.identities set confirmed_at = null")
    async with applier.pool.acquire() as connection:
        await logins.confirm(connection, "user_1", T1)
        assert (await found(applier)).age is None
        await logins.confirm(connection, "user_1", T2)
    assert (await found(applier)).age is not None


async def test_a_row_that_the_app_removed_comes_back_with_the_next_snapshot(
    applier: Applier, db: asyncpg.Connection
) -> None:
    await applier.apply([webhook("user.updated", T2)])
    async with applier.pool.acquire() as connection:
        await logins.save_again(connection, applier.statements, "user_1", T2)
        assert await db.fetchval("select version from clerk_sync.identities") == T2  # it is there
        await db.execute("delete from users")
        await logins.save_again(connection, applier.statements, "user_1", T2)
    await applier.telling("login").apply([fetched("user_1", T2, "Ada")])
    assert (await found(applier)).row


async def test_one_asks_at_a_time_and_a_lease_ends(applier: Applier, db: asyncpg.Connection) -> None:
    async with applier.pool.acquire() as one:
        until = await logins.take_lease(one, "user_1")
        assert until
        assert await logins.take_lease(one, "user_1") is None
        assert await logins.take_lease(one, "user_2")
        await db.execute("update clerk_sync.fetches set until = now() - interval '1 ms'")
        other = await logins.take_lease(one, "user_1")
        assert other
        await logins.give_up_lease(one, "user_1", until)  # no longer ours to give up
        assert await logins.take_lease(one, "user_1") is None
        await logins.give_up_lease(one, "user_1", other)
        assert await logins.take_lease(one, "user_1")


async def test_of_many_who_want_to_ask_one_does(applier: Applier) -> None:
    async def take() -> object:
        async with applier.pool.acquire() as connection:
            return await logins.take_lease(connection, "user_1")

    assert sum(taken is not None for taken in await asyncio.gather(*(take() for _ in range(20)))) == 1
    assert timedelta(seconds=1) < logins.LEASE < timedelta(seconds=10)


async def test_many_ids_become_the_app_s_keys(applier: Applier) -> None:
    await applier.apply([webhook("user.created")])
    gone = Event(make_message_id(), "user.deleted", None, "user_2", Deletion("user_2"))
    await applier.apply([gone])
    records = await logins.resolve(applier.pool, applier.statements, ["user_1", "user_2", "user_3"])
    assert [tuple(record) for record in records] == [
        ("user_1", '"user_1"', False),
        ("user_2", None, True),
        ("user_3", None, None),
    ]
