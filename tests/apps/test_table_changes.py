"""The app's table changes while the service is running, for example with a deployment of the app."""

import asyncio
import json
from dataclasses import replace

import asyncpg
import pytest

from sync_service.errors import MappingMismatch
from sync_service.mapping.table_binding import TableBinding
from sync_service.mapping.toml import parse_mapping
from tests.conftest import Output, Serve
from tests.world import T1, T2, T3, World, make_event, make_message_id

TABLE = "create table users (id text primary key, first_name text, last_name text)"
MAPPING = parse_mapping("""
[users]
clerk_id = "id"
[users.columns]
first_name = "first_name"
last_name = "last_name"
""")


async def create_first_user(world: World) -> None:
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    assert (await world.client.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("damage", "repair", "name"),
    [
        ("alter table users drop last_name", "alter table users add last_name text", "public.users.last_name"),
        (
            "alter table users rename last_name to surname",
            "alter table users rename surname to last_name",
            "public.users.last_name",
        ),
        (
            "alter table users drop constraint users_pkey",
            "alter table users add primary key (id)",
            "public.users.id",
        ),
    ],
)
async def test_a_missing_column_or_index_is_detected_at_once(
    serve: Serve, db: asyncpg.Connection, output: Output, damage: str, repair: str, name: str
) -> None:
    """Until the repair no webhook gets 2xx and the service is not ready; afterwards it needs no restart."""
    await db.execute(TABLE)
    async with serve(mapping=MAPPING) as world:
        await create_first_user(world)
        await db.execute(damage)
        message_id = make_message_id()
        assert (await world.deliver(make_event("user.updated", "user_1", T2), message_id)).status_code == 503
        assert await world.get_event(message_id) is None
        assert (await world.client.get("/readyz")).json() == {"status": "not ready", "reason": "mapping"}
        [error, *_] = output.log("batch_not_stored")[-1]["errors"]
        assert error.startswith(f"{name}: ")
        await db.execute(repair)
        assert await world.deliver_ok(make_event("user.updated", "user_1", T2), message_id) == "applied"
        assert (await world.client.get("/readyz")).status_code == 200
        await world.check_invariants()


async def test_events_wait_for_a_dropped_table(serve: Serve, db: asyncpg.Connection) -> None:
    await db.execute(TABLE)
    async with serve(mapping=MAPPING) as world:
        await create_first_user(world)
        await db.execute("drop table users")
        assert (await world.deliver(make_event("user.updated", "user_1", T2))).status_code == 503
        await db.execute(TABLE)
        assert await world.deliver_ok(make_event("user.updated", "user_1", T2)) == "applied"


@pytest.mark.parametrize("change", ["alter column first_name type varchar(5)", "alter column first_name type char(5)"])
async def test_a_shortened_column_cuts_the_next_event_s_value(
    serve: Serve, db: asyncpg.Connection, change: str
) -> None:
    await db.execute(TABLE)
    async with serve(mapping=MAPPING) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, first_name="Ada"))
        await db.execute(f"alter table users {change}")
        assert await world.deliver_ok(make_event("user.updated", "user_1", T2, first_name="Augusta")) == "applied"
        assert await db.fetchval("select first_name from users") == "Augus"


async def test_a_column_of_another_type_is_written_in_that_type(serve: Serve, db: asyncpg.Connection) -> None:
    await db.execute(TABLE)
    async with serve(mapping=MAPPING) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, first_name="Ada"))
        await db.execute("alter table users alter column first_name type text[] using array[first_name]")
        assert await world.deliver_ok(make_event("user.updated", "user_1", T2, first_name="Augusta")) == "applied"
        assert await db.fetchval("select first_name from users") == ["Augusta"]


async def test_columns_that_the_app_adds_are_not_written(serve: Serve, db: asyncpg.Connection) -> None:
    """A new NOT NULL column without a default parks new users only, and the failure names it."""
    await db.execute(TABLE)
    async with serve(mapping=MAPPING) as world:
        await create_first_user(world)
        await db.execute("alter table users add plan text not null default 'FREE', add seen timestamptz")
        assert await world.deliver_ok(make_event("user.created", "user_2", T1)) == "applied"
        await db.execute("alter table users alter plan drop default")
        message_id = make_message_id()
        response = await world.deliver(make_event("user.created", "user_3", T1), message_id)
        assert response.json() == {"outcome": "parked", "reason": "not_null_violation"}
        stored = await world.get_event(message_id)
        assert stored
        assert json.loads(stored["failures"])[0]["column"] == "plan"
        assert await world.deliver_ok(make_event("user.updated", "user_2", T2)) == "applied"
        await db.execute("alter table users alter plan set default 'PRO'")
        assert await world.deliver_ok(make_event("user.created", "user_3", T1), message_id) == "applied"
        assert await db.fetchval("select array_agg(plan order by id) from users") == ["FREE", "FREE", "PRO"]


async def test_an_error_in_a_trigger_parks_the_event(serve: Serve, db: asyncpg.Connection) -> None:
    """Its SQLSTATE looks like a column that the mapping misses, but the table fits the mapping."""
    await db.execute(TABLE)
    await db.execute(
        "create function broken() returns trigger language plpgsql as"
        " $$ begin perform nowhere from users; return new; end $$;"
        " create trigger broken before insert on users for each row execute function broken()"
    )
    async with serve(mapping=MAPPING) as world:
        response = await world.deliver(make_event("user.created", "user_1", T3))
        assert response.json() == {"outcome": "parked", "reason": "undefined_column"}
        assert (await world.client.get("/readyz")).status_code == 200


async def test_a_change_during_the_reading_of_the_table_is_not_missed(database: str, db: asyncpg.Connection) -> None:
    """Another statement found the change first. The description that was read before it is used once at most."""
    await db.execute(TABLE.replace("users", "people"))
    binding = TableBinding(replace(MAPPING, table="people"))
    other = await asyncpg.connect(database)
    reading = asyncio.create_task(binding.ensure_bound(other))
    await asyncio.sleep(0)
    binding.invalidate()
    await reading
    await db.execute("alter table people drop last_name")
    with pytest.raises(MappingMismatch):
        await binding.ensure_bound(db)
    await other.close()


async def test_concurrent_tasks_share_one_reading_of_the_table(database: str, db: asyncpg.Connection) -> None:
    """At the start several tasks have a connection each. After a failure the next task reads for itself."""
    await db.execute(TABLE.replace("users", "people"))
    binding = TableBinding(replace(MAPPING, table="people"))
    other = await asyncpg.connect(database)
    cancelled = asyncio.create_task(binding.ensure_bound(other))
    await asyncio.sleep(0)
    cancelled.cancel()
    first, second = await asyncio.gather(binding.ensure_bound(db), binding.ensure_bound(db))
    assert first is second
    assert cancelled.cancelled()
    await other.close()
