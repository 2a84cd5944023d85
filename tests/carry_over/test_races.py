"""Carry-overs beside deletions, lost connections and each other; random calls against a model of idempotency."""

import asyncio
import random
from typing import Any

import asyncpg
import pytest

from sync_service.mapping.toml import parse_mapping
from tests.carry_over.conftest import (
    MARKER,
    PROFILE,
    SYNC_TOML,
    carry,
    carry_as_backend,
    count_rows,
    create_app,
    make_body,
    make_settings,
    read_result,
)
from tests.clerk_stub import API_TOKEN, ClerkStub, export_public_key
from tests.conftest import Serve
from tests.world import T2, World, count_lock_waiters, make_event, wait_until

# An AFTER trigger that waits until the test releases the lock, so that the transaction stands open.
BARRIER = """
create function app.wait() returns trigger language plpgsql as $$
begin perform pg_advisory_xact_lock_shared(16); return new; end $$;
create trigger wait after insert on {table} for each row execute function app.wait();
"""


MAX_BREAKS = 20

BREAK_ONE = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'
order by random() limit 1
"""


async def hold_barrier(db: asyncpg.Connection, table: str = "app.user_profiles") -> None:
    await db.execute(BARRIER.format(table=table))
    await db.execute("select pg_advisory_lock(16)")


async def release_barrier(db: asyncpg.Connection) -> None:
    await db.execute("select pg_advisory_unlock(16)")


@pytest.mark.parametrize("table", ["app.user_profiles", "app.notes"])
async def test_a_deletion_waits_for_the_rows_and_deletes_them(world: World, db: asyncpg.Connection, table: str) -> None:
    """The record keeps no key, although it was committed after the deletion had begun. Notes have no foreign key."""
    assert (await carry(world, b"")).status_code == 200
    await hold_barrier(db, table)
    rows: dict[str, Any] = {} if table == "app.user_profiles" else {"notes": [{"text": MARKER}]}
    writing = asyncio.create_task(carry(world, make_body(**rows)))
    await wait_until(lambda: waiters(db, 1))
    deleting = asyncio.create_task(world.deliver(make_event("user.deleted", "user_1", T2)))
    await wait_until(lambda: waiters(db, 2))
    await release_barrier(db)
    assert read_result(await writing) == ("completed", None)
    assert (await deleting).json() == {"outcome": "applied"}
    assert await count_rows(db) == [0, 0, len(rows), 1]
    assert await db.fetchval("select count(*) from app.users") == 0
    assert await db.fetchval("select keys from clerk_sync.carry_overs") == "[]"


async def waiters(db: asyncpg.Connection, number: int) -> bool:
    return await count_lock_waiters(db) == number


async def test_a_user_whose_deletion_is_parked_gets_no_rows(world: World, db: asyncpg.Connection) -> None:
    """The user's row still exists, because a foreign key keeps it; the user is deleted all the same."""
    assert (await carry(world, b"")).status_code == 200
    await db.execute("create table app.invoices (user_id integer references app.users (id))")
    await db.execute("insert into app.invoices select id from app.users")
    assert await world.deliver_ok(make_event("user.deleted", "user_1", T2)) == "parked"
    for response in (await carry(world, make_body()), await carry_as_backend(world, make_body())):
        assert (response.status_code, response.json()["code"]) == (410, "deleted_user")
    assert await count_rows(db) == [0, 0, 0, 0]


async def test_a_lost_connection_writes_nothing_and_keeps_the_id(world: World, db: asyncpg.Connection) -> None:
    assert (await carry(world, b"")).status_code == 200
    await hold_barrier(db)
    writing = asyncio.create_task(carry(world, make_body()))
    await wait_until(lambda: waiters(db, 1))
    await db.execute("select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'")
    response = await writing
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert await count_rows(db) == [0, 0, 0, 0]
    await release_barrier(db)
    assert read_result(await carry(world, make_body())) == ("completed", None)


async def test_connections_that_break_at_any_moment_neither_lose_nor_repeat_a_row(
    world: World, db: asyncpg.Connection
) -> None:
    """The app repeats each call until a response is 200, as after a crash of the service or of the database."""
    assert (await carry(world, b"")).status_code == 200
    visits = [f"visit-{number}" for number in range(40)]
    broken = 0

    async def repeat(visit: str) -> None:
        nonlocal broken
        rows = [{"question": f"{visit}-{number}", "answer": "x"} for number in range(5)]
        while (response := await carry(world, make_body(visit, interactions=rows))).status_code != 200:
            assert response.json()["code"] == "unavailable"
            broken += 1
        assert read_result(response) == ("completed", None)

    calls = [asyncio.create_task(repeat(visit)) for visit in visits]
    for _ in range(MAX_BREAKS):
        await db.execute(BREAK_ONE)
        await asyncio.wait(calls, timeout=random.uniform(0, 0.03))
    await asyncio.gather(*calls)
    assert broken
    assert await count_rows(db) == [0, 5 * len(visits), 0, len(visits)]


async def test_a_repeat_waits_for_the_first_call(world: World, db: asyncpg.Connection) -> None:
    """Another user waits, too, and learns only that the ID is taken."""
    for user_id in ("user_1", "user_2"):
        assert (await carry(world, b"", user_id)).status_code == 200
    await hold_barrier(db)
    first = asyncio.create_task(carry(world, make_body()))
    await wait_until(lambda: waiters(db, 1))
    second = asyncio.create_task(carry(world, make_body(notes=[{"text": MARKER}])))
    other = asyncio.create_task(carry(world, make_body(notes=[{"text": MARKER}]), "user_2"))
    await wait_until(lambda: waiters(db, 3))
    await release_barrier(db)
    assert read_result(await first) == read_result(await second) == ("completed", None)
    assert read_result(await other) == ("failed", "id_of_another_user")
    assert await count_rows(db) == [1, 2, 0, 1]


async def test_a_deletion_that_is_committed_while_the_call_waits_is_seen(
    serve: Serve, clerk: ClerkStub, database: str, db: asyncpg.Connection
) -> None:
    """Also if the transactions of the role are repeatable reads, and the user's row still exists."""
    await create_app(db)
    name = await db.fetchval("select current_database()")
    await db.execute(f"alter database {name} set default_transaction_isolation = 'repeatable read'")
    clerk.add_user("user_1")
    async with serve(**make_settings(clerk)) as world:
        assert (await carry(world, b"")).status_code == 200
        await db.execute("create table app.invoices (user_id integer references app.users (id))")
        await db.execute("insert into app.invoices select id from app.users")
        holder = await asyncpg.connect(database)
        transaction = holder.transaction()
        await transaction.start()
        claim = "insert into clerk_sync.carry_overs (id, clerk_id, status) values ('visit-1', '', 'pending')"
        await holder.execute(claim)
        writing = asyncio.create_task(carry(world, make_body()))
        await wait_until(lambda: waiters(db, 1))
        assert await world.deliver_ok(make_event("user.deleted", "user_1", T2)) == "parked"
        await transaction.rollback()
        await holder.close()
        response = await writing
        assert (response.status_code, response.json()["code"]) == (410, "deleted_user")
    assert await count_rows(db) == [0, 0, 0, 0]


async def test_a_failed_first_call_is_the_result_of_its_repeat(world: World, db: asyncpg.Connection) -> None:
    bodies = [make_body(user_profiles=[{"age": 7}]), make_body()]
    responses = await asyncio.gather(*(carry(world, body) for body in bodies * 3))
    results = {read_result(response) for response in responses}
    assert len(results) == 1
    assert await count_rows(db) == ([1, 2, 0, 1] if results == {("completed", None)} else [0, 0, 0, 1])


async def test_a_deadlock_is_tried_again(world: World, db: asyncpg.Connection) -> None:
    """Two visits of one user that lock two rows of the app in opposite order are both completed."""
    await db.execute("create table app.counters (id integer primary key, n integer default 0)")
    await db.execute("insert into app.counters values (1), (2)")
    await db.execute(
        "create function app.count() returns trigger language plpgsql as $$ begin"
        " update app.counters set n = n + 1 where id = new.text::integer;"
        " perform pg_advisory_xact_lock_shared(16);"
        " update app.counters set n = n + 1 where id = 3 - new.text::integer; return new; end $$;"
        "create trigger count before insert on app.notes for each row execute function app.count()"
    )
    assert (await carry(world, b"")).status_code == 200
    await db.execute("select pg_advisory_lock(16)")
    bodies = [make_body(f"visit-{number}", notes=[{"text": number}]) for number in ("1", "2")]
    calls = [asyncio.create_task(carry(world, body)) for body in bodies]
    await wait_until(lambda: waiters(db, 2))
    await release_barrier(db)
    assert [read_result(await call) for call in calls] == [("completed", None)] * 2
    assert await db.fetchval("select sum(n) from app.counters") == 4


async def test_random_calls_have_the_results_of_the_model(world: World, db: asyncpg.Connection) -> None:
    """The first call of an ID decides for its user and for ever; refused requests count as no call."""
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    known: dict[str, tuple[str, tuple[str, str | None]]] = {}
    written = 0
    for number in range(60):
        visit, user_id = draw.choice("abcdefgh"), draw.choice(["user_1", "user_2"])
        kind = draw.choice(["valid", "valid", "refused", "unlisted", "as backend"])
        rows: dict[str, Any] = {"interactions": [{"question": f"q{number}", "answer": "x"}]}
        if kind == "refused":
            rows["user_profiles"] = [PROFILE | {"age": 7}]
        if kind == "unlisted":
            rows["users"] = [{"id": 1}]
        call = carry_as_backend if kind == "as backend" else carry
        response = await call(world, make_body(visit, **rows), user_id=user_id)
        if kind == "unlisted":
            assert response.status_code == 400
            continue
        result = ("failed", "check_violation") if kind == "refused" else ("completed", None)
        if visit not in known:
            known[visit] = user_id, result
            written += kind != "refused"
        owner, first = known[visit]
        expected = first if owner == user_id else ("failed", "id_of_another_user")
        assert read_result(response) == expected, f"seed {seed}, call {number}"
    assert await count_rows(db) == [0, written, 0, len(known)]


async def test_the_limits_allow_a_hundred_rows_and_256_kib(world: World, db: asyncpg.Connection) -> None:
    rows = [{"question": f"q{number}", "answer": "x"} for number in range(100)]
    assert read_result(await carry(world, make_body("a", interactions=rows))) == ("completed", None)
    empty = make_body("b", notes=[{"text": ""}])
    # The text of the value of carry_over, as `json.dumps` writes it.
    size = len(str(empty["carry_over"]))
    for extra, status in ((0, 200), (1, 400)):
        body = make_body("b", notes=[{"text": "x" * (256 * 1024 - size + extra)}])
        assert (await carry(world, body)).status_code == status
    assert await count_rows(db) == [0, 100, 1, 2]


async def test_a_user_has_a_limited_number_of_carry_overs(world: World, db: asyncpg.Connection) -> None:
    await db.execute(
        "insert into clerk_sync.carry_overs (id, clerk_id, status, finished_at)"
        " select 'old-' || n, 'user_1', 'completed', now() from generate_series(1, 1000) as n"
    )
    assert read_result(await carry(world, make_body())) == ("failed", "too_many_carry_overs")
    assert read_result(await carry(world, make_body("old-7"))) == ("completed", None)
    assert read_result(await carry(world, make_body(), "user_2")) == ("completed", None)
    assert await count_rows(db) == [1, 2, 0, 1001]


async def test_a_profile_and_its_data_arrive_without_a_key_of_clerk(serve: Serve, db: asyncpg.Connection) -> None:
    """The backend creates the row from a profile, and the rows refer to it."""
    await create_app(db)
    mapping = parse_mapping(SYNC_TOML.format(generated=""))
    async with serve(mapping=mapping, sync_api_token=API_TOKEN, clerk_jwt_key=export_public_key()) as world:
        response = await carry_as_backend(world, {"profile": {"first_name": "Ada"}, **make_body()})
        assert (response.json()["outcome"], read_result(response)) == ("unverified", ("completed", None))
    assert await count_rows(db) == [1, 2, 0, 1]


async def test_no_row_is_written_while_clerk_cannot_confirm_a_new_user(
    serve: Serve, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    await create_app(db)
    async with serve(**make_settings(clerk)) as world:
        response = await carry(world, make_body())
        assert (response.status_code, response.json()["code"]) == (404, "unknown_user")
        clerk.add_user("user_1")
        clerk.error_status = 500
        response = await carry(world, make_body())
        assert (response.status_code, response.json()["code"]) == (503, "clerk_unavailable")
    assert await count_rows(db) == [0, 0, 0, 0]
