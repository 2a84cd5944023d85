"""Deletions that cascade for long: all are stored at the first attempt and finished in the background."""

import asyncio

import asyncpg
import pytest

from sync_service.dsn import parse_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.pool import open_database
from sync_service.store.access import Store
from sync_service.sync import commit
from sync_service.sync.apply import Applier
from sync_service.web.limits import TimeLimits
from tests.conftest import Serve
from tests.faults.fault_run import KILLS
from tests.test_apply import make_webhook
from tests.world import World, make_event, make_message_id, wait_until


async def slow_down_deletions(db: asyncpg.Connection, seconds: float | str) -> None:
    await db.execute(f"""
        create function slowly() returns trigger language plpgsql as
        $$ begin perform pg_sleep({seconds}); return old; end $$;
        create trigger slowly before delete on users for each row execute function slowly();
    """)


async def create_users(db: asyncpg.Connection, count: int) -> None:
    await db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " select 'user_' || n, false, false, false, '{}' from generate_series(1, $1) as n",
        count,
    )


async def wait_until_deleted(world: World) -> None:
    async def is_empty() -> bool:
        return not await world.get_users()

    await wait_until(is_empty, 60)
    assert await world.db.fetchval("select count(*) from clerk_sync.events where status <> 'applied'") == 0


@pytest.mark.parametrize("count", [64] if KILLS < 10 else [64, 200])
async def test_many_long_deletions_at_once_are_all_stored(serve: Serve, db: asyncpg.Connection, count: int) -> None:
    """Each is answered 2xx at the first attempt, and a save beside them is applied."""
    await create_users(db, count)
    await slow_down_deletions(db, 3)
    async with serve() as world:
        deletions = [make_event("user.deleted", f"user_{n}") for n in range(1, count + 1)]
        work = asyncio.gather(*(world.deliver(body) for body in deletions))
        assert await world.deliver_ok(make_event("user.created", "user_other")) == "applied"
        assert {answer.status_code for answer in await work} <= {200, 202}
        assert await db.fetchval("select count(*) from clerk_sync.identities where deleted_at is not null") == count
        # The background deletes over few connections; the rest of the sleep is not waited for.
        await db.execute(
            "create or replace function slowly() returns trigger language plpgsql as $$ begin return old; end $$"
        )
        await db.execute("delete from users where id = 'user_other'")
        await wait_until_deleted(world)


async def test_background_cascades_leave_connections_free(serve: Serve, db: asyncpg.Connection) -> None:
    await create_users(db, 30)
    await slow_down_deletions(db, 3)
    async with serve(limits=TimeLimits(deletion=0.3)) as world:
        await asyncio.gather(*(world.deliver(make_event("user.deleted", f"user_{n}")) for n in range(1, 31)))
        sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"

        async def has_started() -> bool:
            return bool(await db.fetchval(sleeping))

        await wait_until(has_started)
        assert {await world.deliver_ok(make_event("user.created", f"user_{n}")) for n in range(50, 70)} == {"applied"}
        assert 1 <= await db.fetchval(sleeping) <= 3


async def test_a_long_deletion_among_replayed_ones_takes_as_long_as_it_needs(
    db: asyncpg.Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are tried together first, which takes too long."""
    monkeypatch.setattr(commit, "DELETE_TIMEOUT", 0.2)
    await create_users(db, 5)
    await slow_down_deletions(db, "case old.id when 'user_3' then 0.5 else 0 end")
    pool = await open_database(parse_dsn(database))
    deletions = [make_webhook("user.deleted", f"user_{n}") for n in range(1, 6)]
    assert {outcome.outcome for outcome in await Applier(Store(pool, DEFAULT)).apply_again(deletions)} == {"applied"}
    await pool.aclose()
    assert await db.fetchval("select count(*) from users") == 0
    rows = await db.fetch("select distinct status, attempts from clerk_sync.events")
    assert [tuple(row) for row in rows] == [("applied", 1)]


@pytest.mark.parametrize(
    "setting",
    ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"],
)
async def test_a_timeout_of_the_role_does_not_stop_a_deletion(
    serve: Serve, db: asyncpg.Connection, setting: str
) -> None:
    """The cascade takes five times as long as the timeout that is set on the database."""
    if not await db.fetchval("select count(*) from pg_settings where name = $1", setting):
        pytest.skip(f"this PostgreSQL has no {setting}")
    await create_users(db, 1)
    await slow_down_deletions(db, 1.5)
    await db.execute(f'alter database "{await db.fetchval("select current_database()")}" set {setting} = 300')
    async with serve() as world:
        message_id = make_message_id()
        answer = await world.deliver(make_event("user.deleted", "user_1"), message_id)
        assert answer.status_code in {200, 202}, answer.text
        await wait_until_deleted(world)


async def test_an_error_of_a_delete_trigger_is_shown(serve: Serve, db: asyncpg.Connection) -> None:
    """A trigger that raises a timeout's code is not taken for a long cascade for ever."""
    await create_users(db, 1)
    await slow_down_deletions(db, 0)
    await db.execute("""
        create or replace function slowly() returns trigger language plpgsql as
        $$ begin raise exception 'no' using errcode = '57014'; end $$
    """)
    async with serve() as world:
        message_id = make_message_id()
        assert (await world.deliver(make_event("user.deleted", "user_1"), message_id)).status_code == 202

        async def has_reason() -> bool:
            stored = await world.get_event(message_id)
            return bool(stored and stored["reason"] == "query_canceled" and "slowly" in stored["failures"])

        await wait_until(has_reason, 20)
