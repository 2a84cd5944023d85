"""GET /changes: no entry is skipped, none is shown before its commit, and a request may wait for one."""

import asyncio
import random
import time
from typing import Any

import asyncpg
import pytest

from sync_service.dev.embedded import EmbeddedServer
from sync_service.doctor.grant_fixes import grant_clerk_sync
from sync_service.store.feed import START, adopt_restored_entries, prune_entries, read_entries
from sync_service.web import changes
from tests.conftest import Serve
from tests.feed.conftest import OpenApplier, make
from tests.feed.test_recording import MAPPING
from tests.world import T1, T2, World, make_event

pytestmark = pytest.mark.every_postgres

TOKEN = "feed_token_of_the_backend_012345678901234567"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
RECORDING: dict[str, Any] = {"mapping": MAPPING, "sync_api_token": TOKEN}

INSERT = "insert into clerk_sync.changes (type, clerk_id) values ('user.updated', $1)"
INSERT_OF = """
insert into clerk_sync.changes (transaction_id, type, clerk_id) values ($1::text::xid8, 'user.updated', $2)
"""
INSERT_VERSION = "insert into clerk_sync.changes (type, clerk_id, columns) values ('user.updated', $1, array[$2::text])"
INCREASE = "update locks set version = version + 1 where id = $1 returning version"


async def read(world: World, **parameters: Any) -> dict[str, Any]:
    response = await world.client.get("/changes", params=parameters, headers=HEADERS)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_pages_follow_each_other(serve: Serve) -> None:
    """Each page begins after the cursor of the one before, and each consumer has its own cursor."""
    async with serve(**RECORDING) as world:
        for n in range(5):
            await world.deliver_ok(make_event("user.created", f"user_{n}", T1))
        found, cursor = [], ""
        for _ in range(3):
            page = await read(world, after=cursor, limit=2)
            found += page["changes"]
            cursor = page["next"]
        assert [change["clerk_id"] for change in found] == [f"user_{n}" for n in range(5)]
        first = found[0]
        assert first["type"] == "user.created"
        assert (first["key"], first["id"]) == ("user_0", f"chg_{first['cursor']}")
        assert "email" in first["columns"]
        assert await read(world, after=cursor) == {"changes": [], "next": cursor}
        assert len((await read(world))["changes"]) == 5


async def test_an_open_writer_hides_the_later_entries_and_none_is_skipped(
    serve: Serve, db: asyncpg.Connection, database: str
) -> None:
    """Transactions commit in another order than they began; the reader sees each entry once."""
    first, second = await asyncpg.connect(database), await asyncpg.connect(database)
    async with serve(**RECORDING) as world:
        early, late = first.transaction(), second.transaction()
        await early.start()
        await first.execute("select pg_current_xact_id()")
        await late.start()
        await second.execute(INSERT, "late")
        await db.execute(INSERT, "committed")
        page = await read(world)
        assert page["changes"] == []
        await first.execute(INSERT, "early")
        await early.commit()
        assert (await read(world, after=page["next"]))["changes"] == []
        await late.commit()
        page = await read(world, after=page["next"])
        assert [change["clerk_id"] for change in page["changes"]] == ["late", "committed", "early"]
    await first.close()
    await second.close()


async def test_an_entry_after_a_wait_for_a_lock_follows_the_one_of_the_lock(
    serve: Serve, db: asyncpg.Connection, database: str
) -> None:
    """The waiting transaction has the smaller ID, because it has written another user before. Its entry is later."""
    waiting = await asyncpg.connect(database)
    async with serve(**RECORDING) as world:
        transaction = waiting.transaction()
        await transaction.start()
        await waiting.execute("select pg_current_xact_id()")
        await db.execute(INSERT, "before")
        await waiting.execute(INSERT, "after")
        await transaction.commit()
        assert [change["clerk_id"] for change in (await read(world))["changes"]] == ["before", "after"]
    await waiting.close()


async def test_the_order_is_that_of_numbers(serve: Serve, db: asyncpg.Connection) -> None:
    """Transaction 10 follows transaction 9, also on a page with one entry."""
    for number in ("10", "9"):
        await db.execute(INSERT_OF, number, f"user_{number}")
    async with serve(**RECORDING) as world:
        page = await read(world, limit=1)
        assert page["changes"][0]["clerk_id"] == "user_9"
        assert (await read(world, after=page["next"]))["changes"][0]["clerk_id"] == "user_10"


async def test_only_a_writer_of_the_feed_delays_it(
    serve: Serve, db: asyncpg.Connection, database: str, engine: EmbeddedServer
) -> None:
    """Long transactions that write other tables, or in other databases of the server, delay no entry."""
    of_the_app, elsewhere = await asyncpg.connect(database), await asyncpg.connect(engine.dsn())
    for connection in (of_the_app, elsewhere):
        await connection.execute("begin; create temporary table report (n integer)")
    async with serve(**RECORDING) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1))
        assert [change["clerk_id"] for change in (await read(world))["changes"]] == ["user_1"]
    for connection in (of_the_app, elsewhere):
        await connection.close()


async def test_readers_during_many_transactions_see_each_entry_once(
    serve: Serve, database: str, db: asyncpg.Connection
) -> None:
    """Writers hold their transactions open for random times, and lock a few users, while two consumers read by cursor.

    The version of a user, which only its lock holder increases, shows that the changes of one user are in order.
    """
    await db.execute("create table locks (id text primary key, version integer not null)")
    await db.execute("insert into locks select 'user_' || n, 0 from generate_series(0, 3) as n")
    writers = [await asyncpg.connect(database) for _ in range(6)]

    async def write(connection: asyncpg.Connection, rng: random.Random) -> None:
        for _ in range(12):
            async with connection.transaction():
                if rng.random() < 0.5:
                    await connection.execute("select pg_current_xact_id()")
                await asyncio.sleep(rng.random() / 100)
                for user in sorted(rng.sample(range(4), 2)):
                    version = await connection.fetchval(INCREASE, f"user_{user}")
                    await connection.execute(INSERT_VERSION, f"user_{user}", str(version))
                    await asyncio.sleep(rng.random() / 200)

    async def consume(world: World, limit: int) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        cursor = ""
        while len(found) < 144:
            page = await read(world, after=cursor, limit=limit, wait="1s")
            cursor = page["next"]
            found += [(change["clerk_id"], int(change["columns"][0])) for change in page["changes"]]
        return found

    async with serve(**RECORDING) as world:
        writing = [write(connection, random.Random(number)) for number, connection in enumerate(writers)]
        readers = asyncio.gather(consume(world, 3), consume(world, 1000))
        async with asyncio.timeout(30):  # a reader that skips an entry would wait for it without an end
            await asyncio.gather(*writing)
            few, many = await readers
    assert few == many
    assert len(set(few)) == 144
    for user in range(4):
        versions = [version for name, version in few if name == f"user_{user}"]
        assert versions == list(range(1, len(versions) + 1))
    for connection in writers:
        await connection.close()


async def test_a_long_poll_ends_with_the_commit_and_uses_no_connection(serve: Serve, db: asyncpg.Connection) -> None:
    """A commit of this process ends it at once. While it waits, it has no transaction and no connection of the pool."""
    async with serve(**RECORDING) as world:
        waiting = [asyncio.create_task(read(world, wait="20s")) for _ in range(15)]
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await world.deliver_ok(make_event("user.created", "user_1", T1))
        pages = await asyncio.gather(*waiting)
        assert time.monotonic() - began < 5
        assert {page["changes"][0]["clerk_id"] for page in pages} == {"user_1"}


async def test_a_long_poll_sees_the_commit_of_another_process(serve: Serve, open_applier: OpenApplier) -> None:
    """The slow poll finds it; without a change the wait ends with an empty page."""
    applier = await open_applier(MAPPING)
    async with serve(**RECORDING) as world:
        assert (await read(world, wait="1s"))["changes"] == []
        waiting = asyncio.create_task(read(world, wait="20s"))
        await asyncio.sleep(0.1)
        await applier.apply([make("user.created", "user_1", T2)])
        assert (await waiting)["changes"][0]["clerk_id"] == "user_1"


async def test_a_process_keeps_a_limited_number_of_requests_waiting(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more request is asked to come later; a request without `wait` is answered."""
    monkeypatch.setattr(changes, "MAX_WAITING", 1)
    async with serve(**RECORDING) as world:
        both = [asyncio.create_task(world.client.get("/changes?wait=20s", headers=HEADERS)) for _ in range(2)]
        [refused], [waiting] = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        assert (refused.result().status_code, refused.result().headers["retry-after"]) == (429, "5")
        assert (await read(world))["changes"] == []
        await world.deliver_ok(make_event("user.created", "user_1", T1))
        assert len((await waiting).json()["changes"]) == 1


async def test_a_role_with_the_documented_privileges_writes_and_reads_entries(db: asyncpg.Connection) -> None:
    """Another role has run the migrations; `doctor` prints these grants."""
    await db.execute("create role feed_user")
    try:
        await db.execute("".join(grant_clerk_sync("feed_user")))
        await db.execute("set role feed_user")
        await db.execute(INSERT, "user_1")
        assert [entry.clerk_id for entry in await read_entries(db, START, 10)] == ["user_1"]
    finally:
        await db.execute("reset role; drop owned by feed_user; drop role feed_user")


async def test_entries_are_kept_for_thirty_days(db: asyncpg.Connection) -> None:
    """The oldest are removed first, a limited number at a time."""
    for days in (32, 31, 31, 29):
        await db.execute(INSERT, str(days))
    await db.execute("update clerk_sync.changes set at = now() - clerk_id::integer * interval '1 day'")
    assert [await prune_entries(db, 2) for _ in range(3)] == [2, 1, 0]
    assert [row[0] for row in await db.fetch("select clerk_id from clerk_sync.changes")] == ["29"]


@pytest.mark.parametrize(
    "query",
    ["after=1", "after=x-1", "after=-1-1", f"after=1-{2**63}", "limit=0", "limit=1001", "wait=1", "wait=26s", "x=1"],
)
async def test_an_unreadable_parameter_is_an_error(serve: Serve, query: str) -> None:
    """A parameter is never ignored."""
    async with serve(**RECORDING) as world:
        response = await world.client.get(f"/changes?{query}", headers=HEADERS)
        assert (response.status_code, response.json()["code"]) == (400, "bad_request")


async def test_the_feed_needs_the_service_token_and_recording(serve: Serve) -> None:
    """Without recording there is no such route."""
    async with serve(**RECORDING) as world:
        assert (await world.client.get("/changes")).status_code == 401
    async with serve(sync_api_token=TOKEN) as world:
        assert (await world.client.get("/changes", headers=HEADERS)).status_code == 404


async def test_a_cursor_from_before_a_restore_into_another_server_skips_no_entry(
    serve: Serve, db: asyncpg.Connection
) -> None:
    """The other server had reached a higher transaction ID than this one has."""
    for user in ("read", "restored"):
        await db.execute(INSERT_OF, "9000000", user)
    await adopt_restored_entries(db)
    async with serve(**RECORDING) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1))
        page = await read(world, after="9000000-1")
        assert [change["clerk_id"] for change in page["changes"]] == ["restored", "user_1"]
