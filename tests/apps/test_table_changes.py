"""The app's table changes while the service is running: with the next deployment of the app, say."""

import json

import asyncpg
import pytest

from sync_service.mapping.file import read_mapping
from tests.conftest import Output, Serve
from tests.world import T1, T2, T3, World, make_event, make_message_id

TABLE = "create table users (id text primary key, first_name text, last_name text)"
MAPPING = read_mapping("""
[users]
clerk_id = "id"
[users.columns]
first_name = "first_name"
last_name = "last_name"
""")


async def begin(world: World) -> None:
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    assert (await world.client.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("harm", "cure", "name"),
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
async def test_what_the_mapping_needs_is_missed_at_once_and_found_again(
    serve: Serve, db: asyncpg.Connection, output: Output, harm: str, cure: str, name: str
) -> None:
    """Nothing is answered 2xx meanwhile, the service says that it is not ready, and needs no restart afterwards."""
    await db.execute(TABLE)
    async with serve(mapping=MAPPING) as world:
        await begin(world)
        await db.execute(harm)
        message_id = make_message_id()
        assert (await world.deliver(make_event("user.updated", "user_1", T2), message_id)).status_code == 503
        assert await world.get_event(message_id) is None
        assert (await world.client.get("/readyz")).json() == {"status": "not ready", "reason": "mapping"}
        [fault, *_] = output.log("not stored")[-1]["faults"]
        assert fault.startswith(f"{name}: ")
        await db.execute(cure)
        assert await world.deliver_ok(make_event("user.updated", "user_1", T2), message_id) == "applied"
        assert (await world.client.get("/readyz")).status_code == 200
        await world.check_invariants()


async def test_a_table_that_is_gone_is_waited_for(serve: Serve, db: asyncpg.Connection) -> None:
    await db.execute(TABLE)
    async with serve(mapping=MAPPING) as world:
        await begin(world)
        await db.execute("drop table users")
        assert (await world.deliver(make_event("user.updated", "user_1", T2))).status_code == 503
        await db.execute(TABLE)
        assert await world.deliver_ok(make_event("user.updated", "user_1", T2)) == "applied"


@pytest.mark.parametrize("change", ["alter column first_name type varchar(5)", "alter column first_name type char(5)"])
async def test_a_column_that_has_become_shorter_cuts_from_the_next_event_on(
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


async def test_columns_that_the_app_adds_are_its_own(serve: Serve, db: asyncpg.Connection) -> None:
    """One that insists on a value parks new users, by its name, and nobody else."""
    await db.execute(TABLE)
    async with serve(mapping=MAPPING) as world:
        await begin(world)
        await db.execute("alter table users add plan text not null default 'FREE', add seen timestamptz")
        assert await world.deliver_ok(make_event("user.created", "user_2", T1)) == "applied"
        await db.execute("alter table users alter plan drop default")
        message_id = make_message_id()
        answer = await world.deliver(make_event("user.created", "user_3", T1), message_id)
        assert answer.json() == {"outcome": "parked", "reason": "not_null_violation"}
        filed = await world.get_event(message_id)
        assert filed
        assert json.loads(filed["failures"])[0]["column"] == "plan"
        assert await world.deliver_ok(make_event("user.updated", "user_2", T2)) == "applied"
        await db.execute("alter table users alter plan set default 'PRO'")
        assert await world.deliver_ok(make_event("user.created", "user_3", T1), message_id) == "applied"
        assert await db.fetchval("select array_agg(plan order by id) from users") == ["FREE", "FREE", "PRO"]


async def test_a_trigger_that_is_broken_parks_and_is_not_tried_for_ever(serve: Serve, db: asyncpg.Connection) -> None:
    """Its fault looks like a column that the mapping misses; the table fits all the same."""
    await db.execute(TABLE)
    await db.execute(
        "create function broken() returns trigger language plpgsql as"
        " $$ begin perform nowhere from users; return new; end $$;"
        " create trigger broken before insert on users for each row execute function broken()"
    )
    async with serve(mapping=MAPPING) as world:
        answer = await world.deliver(make_event("user.created", "user_1", T3))
        assert answer.json() == {"outcome": "parked", "reason": "undefined_column"}
        assert (await world.client.get("/readyz")).status_code == 200
