"""The cause of an error: a trigger of the app may raise any SQLSTATE, and concerns its own event only."""

import asyncio
import json

import asyncpg
import pytest

from sync_service.dsn import parse_dsn
from tests.conftest import Serve
from tests.problems import read_problem_code
from tests.world import World, make_event, make_message_id

# All are raised by an app in practice: pg_net that is not installed, a foreign server that is down, a queue that is
# full, a statement of the trigger that is cancelled.
RAISED = ["3F000", "42P01", "08006", "08003", "40001", "40P01", "53100", "53300", "55P03", "57014", "57P01", "58030"]
RAISED += ["25006", "26000", "28000", "3D000", "42P05", "F0000", "XX000", "25P03", "HV000", "P0001", "23505", "42501"]

ANNOUNCE = """
create function announce() returns trigger language plpgsql as
$$ begin {body} return new; end $$;
create trigger announce_vip after insert on users for each row when (new.id = 'user_vip') execute function announce();
"""


async def create_trigger(db: asyncpg.Connection, body: str) -> None:
    await db.execute(ANNOUNCE.format(body=body))


async def set_for_database(db: asyncpg.Connection, setting: str) -> None:
    """Change a setting of all later connections."""
    await db.execute(f'alter database "{await db.fetchval("select current_database()")}" set {setting}')


async def deliver_vip_and_others(world: World) -> tuple[str, str]:
    """Deliver a user that the trigger refuses among 29 others; return its message ID and its reason."""
    message_id = make_message_id()
    others = [world.deliver(make_event("user.created", f"user_{n}")) for n in range(29)]
    answers = await asyncio.gather(world.deliver(make_event("user.created", "user_vip"), message_id), *others)
    assert [answer.status_code for answer in answers] == [202] + [200] * 29
    return message_id, answers[0].json()["reason"]


@pytest.mark.parametrize("sqlstate", RAISED)
async def test_a_trigger_may_raise_any_sqlstate(serve: Serve, db: asyncpg.Connection, sqlstate: str) -> None:
    """The event is parked with the name of the function; the other events of its batch are applied."""
    await create_trigger(db, f"raise exception 'no' using errcode = '{sqlstate}';")
    async with serve() as world:
        message_id, _ = await deliver_vip_and_others(world)
        failures = json.loads(await db.fetchval("select failures from clerk_sync.events where id = $1", message_id))
        assert failures[0]["function"] == "announce"
        assert await db.fetchval("select count(*) from users") == 29


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        ("perform net.http_post('https://hooks.example');", {"invalid_schema_name"}),
        ("perform from missing_table;", {"undefined_table"}),
        ("perform pg_terminate_backend(pg_backend_pid());", {"admin_shutdown", "connection_does_not_exist"}),
    ],
    ids=["no schema", "no table", "connection ended"],
)
async def test_a_trigger_may_fail_in_any_way(
    serve: Serve, db: asyncpg.Connection, body: str, reasons: set[str]
) -> None:
    await create_trigger(db, body)
    async with serve() as world:
        assert (await deliver_vip_and_others(world))[1] in reasons


async def test_a_trigger_that_is_too_slow_for_the_role_s_statement_timeout_parks_its_event(
    serve: Serve, db: asyncpg.Connection
) -> None:
    await create_trigger(db, "perform pg_sleep(30);")
    await set_for_database(db, "statement_timeout = 400")
    async with serve() as world:
        assert (await deliver_vip_and_others(world))[1] == "query_canceled"


async def test_a_trigger_that_never_ends_parks_its_event(serve: Serve, db: asyncpg.Connection) -> None:
    await create_trigger(db, "perform pg_sleep(60);")
    async with serve() as world:
        answer = await world.deliver(make_event("user.created", "user_vip"))
        assert (answer.status_code, answer.json().get("reason")) == (202, "timeout")


async def test_a_read_only_database_is_unavailable(serve: Serve, db: asyncpg.Connection) -> None:
    """25006 with evidence: the probe cannot write either. /readyz reports it."""
    await set_for_database(db, "default_transaction_read_only = on")
    async with serve() as world:
        assert (await world.deliver(make_event("user.created", "user_1"))).status_code == 503
        response = await world.client.get("/readyz")
        assert (response.status_code, response.json()["reason"]) == (503, "database")


async def test_a_role_that_may_not_store_an_event_is_unavailable(
    serve: Serve, db: asyncpg.Connection, database: str
) -> None:
    """Also while the first event pins its instance: the sender keeps the event until the privilege is granted."""
    name = "stranger_" + str(await db.fetchval("select oid from pg_database where datname = current_database()"))
    await db.execute(f"create role {name} login; grant all on public.users to {name}")
    try:
        async with serve(database=parse_dsn(database.replace("//postgres@", f"//{name}@"))) as world:
            event = make_event("user.created", "user_1")
            for sent in (event | {"instance_id": "ins_1"}, event):
                response = await world.deliver(sent)
                assert (response.status_code, read_problem_code(response)) == (503, "unavailable")
                assert response.headers["retry-after"]
    finally:
        await db.execute(f"drop owned by {name}; drop role {name}")
