"""`users restore` is durable: neither a deletion that runs nor one that is delivered again undoes it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from sync_service.clerk.events import parse_event
from sync_service.dsn import parse_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.queries import Queries
from sync_service.postgres.pool import open_database
from sync_service.store.access import BoundConnection, Store
from sync_service.store.deletions import restore_user
from sync_service.sync.apply import Applier
from sync_service.sync.recovery import Batch, Work
from tests.world import count_lock_waiters, encode_body, make_event, make_message_id, wait_until

pytestmark = pytest.mark.every_postgres

MAPPING = replace(DEFAULT, deleted_at="deleted_at")


@pytest.fixture(params=[timedelta(0), timedelta(days=7)], ids=["due", "deferred"])
async def applier(request: pytest.FixtureRequest, database: str, db: asyncpg.Connection) -> AsyncIterator[Applier]:
    await db.execute("alter table users add column deleted_at timestamptz")
    pool = await open_database(parse_dsn(database))
    yield Applier(Store(pool, replace(MAPPING, delete_grace=request.param)))
    await pool.aclose()


@pytest.fixture
async def other(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
async def third(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def create_deleted_user(applier: Applier, db: asyncpg.Connection) -> Queries:
    """Create a user with a tombstone and a row, as between the two steps of a deletion."""
    await applier.apply([parse_event(make_message_id(), encode_body(make_event("user.created", "user_1")))])
    await db.execute("update clerk_sync.identities set version = null, tiebreak = null, deleted_at = now()")
    return await applier.store.binding.ensure_bound(db)


async def read_state(db: asyncpg.Connection) -> list[tuple[bool, bool, bool]]:
    """Return whether each row is marked, whether its user is deleted, and whether the user was restored."""
    rows = await db.fetch(
        "select u.deleted_at is not null, i.deleted_at is not null, i.restored_at is not null"
        " from users as u join clerk_sync.identities as i on i.clerk_id = u.id"
    )
    return [tuple(row) for row in rows]


STANDS = [(False, False, True)]


@pytest.mark.parametrize("finishes", [True, False])
async def test_a_restore_during_a_deletion_says_how_the_deletion_ended(
    applier: Applier, db: asyncpg.Connection, other: asyncpg.Connection, third: asyncpg.Connection, finishes: bool
) -> None:
    """The deletion has locked the row and waits for a child. Until it ends, the restore has no answer."""
    await db.execute("create table orders (user_id text references users on delete cascade)")
    queries = await create_deleted_user(applier, db)
    await db.execute("insert into orders values ('user_1')")
    holder = third.transaction()
    await holder.start()
    await third.execute("select from orders for update")
    deletion = asyncio.create_task(other.execute(queries.delete_rows, ["user_1"], [], "60000"))
    await wait_until(lambda: count_lock_waiters(db))
    async with applier.store.acquire() as bound:
        restore = asyncio.create_task(restore_user(bound, "user_1"))
        await wait_until(lambda: is_done_or_waiting(restore, db))
        assert not restore.done()
        if finishes:
            await holder.rollback()
            await deletion
            assert not await restore
            assert await read_state(db) == []
        else:
            await db.execute("select pg_cancel_backend($1)", other.get_server_pid())
            with pytest.raises(asyncpg.QueryCanceledError):
                await deletion
            assert await restore
            await holder.rollback()
            await other.execute(queries.delete_rows, ["user_1"], [], "60000")
            assert await read_state(db) == STANDS


async def is_done_or_waiting(task: asyncio.Task[bool], db: asyncpg.Connection) -> bool:
    return task.done() or await count_lock_waiters(db) == 2


@pytest.mark.parametrize("step", ["delete_rows", "mark_deleted"])
async def test_a_deletion_that_waited_for_a_restore_changes_no_row(
    applier: Applier, db: asyncpg.Connection, other: asyncpg.Connection, third: asyncpg.Connection, step: str
) -> None:
    """The second step began before the restore committed, as during a stall of the database."""
    queries = await create_deleted_user(applier, db)
    message_id = await db.fetchval("select id from clerk_sync.events")
    async with third.transaction():
        assert await restore_user(BoundConnection(third, queries), "user_1")
        parameters = {"delete_rows": (["user_1"], [message_id]), "mark_deleted": (["user_1"],)}[step]
        waiting = asyncio.create_task(other.execute(getattr(queries, step), *parameters, "60000"))
        await wait_until(lambda: count_lock_waiters(db))
    await waiting
    assert await read_state(db) == STANDS
    assert await db.fetchval("select payload is not null from clerk_sync.events")


async def test_a_deletion_that_is_delivered_again_during_a_restore_is_stale(
    applier: Applier, db: asyncpg.Connection, third: asyncpg.Connection
) -> None:
    """Its first step waits for the restore, too. The retry of the event has no effect either."""
    queries = await create_deleted_user(applier, db)
    again = parse_event(make_message_id(), encode_body(make_event("user.deleted", "user_1")))
    async with third.transaction():
        assert await restore_user(BoundConnection(third, queries), "user_1")
        waiting = asyncio.create_task(applier.apply([again]))
        await wait_until(lambda: count_lock_waiters(db))
    assert [outcome.outcome for outcome in await waiting] == ["stale"]
    assert await read_state(db) == STANDS
    assert await db.fetchval("select status from clerk_sync.events where id = $1", again.id) == "stale"


async def test_a_deletion_whose_second_step_finds_a_restored_user_is_stale(
    applier: Applier, db: asyncpg.Connection
) -> None:
    """The operator was quicker than the second step: the row stands, so `applied` would be wrong."""
    queries = await create_deleted_user(applier, db)
    due = parse_event(make_message_id(), encode_body(make_event("user.deleted", "user_1")))
    assert await restore_user(BoundConnection(db, queries), "user_1")
    [outcome] = await applier.commit([due], Batch(1, work=Work.CASCADE), 1000)
    assert outcome.outcome == "stale"
    assert await read_state(db) == STANDS
