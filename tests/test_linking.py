"""link_by_verified_email: a deletion beside the creation, letters that only Unicode folds, a large table."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from sync_service.dev.embedded import EmbeddedServer
from sync_service.dsn import parse_dsn
from sync_service.mapping.toml import parse_mapping
from sync_service.postgres.migrate import migrate
from sync_service.settings import Settings
from tests.apps.conftest import open_connection
from tests.conftest import Output
from tests.findings import run_doctor
from tests.test_unique_values import make_address
from tests.world import T1, count_lock_waiters, make_event, run_world, wait_until

pytestmark = pytest.mark.every_postgres

TOML = """
[users]
table = "people"
clerk_id = "clerk_id"
link_by_verified_email = true
[users.columns]
email = "primary_email"
"""
TABLE = "create table people (id serial primary key, clerk_id text unique, email text)"
KELVIN = "\u212a"


async def test_a_deletion_beside_the_creation_leaves_no_linked_row(
    settings: Settings, db: asyncpg.Connection, database: str
) -> None:
    """The creation waits for the row's lock while the deletion arrives; afterwards no row has the deleted user's ID."""
    await db.execute(TABLE)
    await db.execute("insert into people (email) values ('ada@example.com')")
    watcher = await asyncpg.connect(database)
    async with run_world(settings, db, mapping=parse_mapping(TOML)) as world:
        async with db.transaction():
            await db.execute("select from people for update")
            creation = asyncio.create_task(
                world.deliver(make_event("user.created", "user_1", T1, **make_address("ada@example.com")))
            )
            await wait_until(lambda: count_lock_waiters(watcher))
            deletion = asyncio.create_task(world.deliver(make_event("user.deleted", "user_1")))

            async def has_arrived() -> bool:
                return deletion.done() or await count_lock_waiters(watcher) >= 2

            await wait_until(has_arrived)
        responses = await asyncio.gather(creation, deletion)
        assert {response.status_code for response in responses} == {200}
    assert await db.fetchval("select count(*) from people where clerk_id is not null") == 0
    assert await db.fetchval("select deleted_at from clerk_sync.identities")
    await watcher.close()


@pytest.fixture
async def folding_database(engine: EmbeddedServer) -> AsyncIterator[str]:
    """The address of a migrated database in which lower() folds all letters of Unicode."""
    async with open_connection(engine.dsn()) as admin:
        await admin.execute("create database folding template template0 locale 'C.UTF-8'")
        async with open_connection(engine.dsn("folding")) as connection:
            await migrate(connection)
        yield engine.dsn("folding")
        await admin.execute("drop database folding with (force)")


async def test_letters_that_only_unicode_folds_link_no_row(settings: Settings, folding_database: str) -> None:
    """The Kelvin sign is the capital of k in Unicode; the email with it belongs to another person."""
    settings = replace(settings, database=parse_dsn(folding_database), mapping=parse_mapping(TOML))
    db = await asyncpg.connect(folding_database)
    assert await db.fetchval("select lower($1::text) = 'k'", KELVIN)
    await db.execute(TABLE)
    await db.execute("insert into people (email) values ('mike@example.com'), ('John@Example.com')")
    async with run_world(settings, db) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, **make_address(f"mi{KELVIN}e@example.com")))
        await world.deliver_ok(make_event("user.created", "user_2", T1, **make_address("jOHN@example.COM")))
    rows = await db.fetch("select id, clerk_id from people order by id")
    assert [(row["id"], row["clerk_id"]) for row in rows] == [(1, None), (2, "user_2"), (3, "user_1")]
    await db.close()


async def test_a_large_table_without_an_index_is_refused_with_the_index(
    settings: Settings, db: asyncpg.Connection, database: str, output: Output
) -> None:
    await db.execute(TABLE)
    await db.execute(
        "insert into people (email) select 'person' || n || '@example.com' from generate_series(1, 60000) n"
    )
    finding = (await run_doctor(database, TOML)).one("no_index_for_linking")
    assert finding.kind == "wrong"
    async with run_world(settings, db, mapping=parse_mapping(TOML)) as world:
        response = await world.client.get("/readyz")
        assert (response.status_code, response.json()["reason"]) == (503, "mapping")
        event = make_event("user.created", "user_1", T1, **make_address("person7@example.com"))
        assert (await world.deliver(event)).status_code == 503
        [error] = output.log("batch_not_stored")[0]["errors"]
        statement = error[error.index("create index") :]
        await db.execute(statement)
        assert await world.deliver_ok(event) == "applied"
    assert await db.fetchval("select id from people where clerk_id = 'user_1'") == 7
    assert "no_index_for_linking" not in (await run_doctor(database, TOML)).codes()


@pytest.mark.parametrize("index", ["(lower(email))", "(lower(email)) include (id)", "(lower(email), id)"])
async def test_each_index_that_finds_an_email_is_enough(database: str, db: asyncpg.Connection, index: str) -> None:
    await db.execute(TABLE)
    await db.execute(f"create index on people {index}")
    assert "no_index_for_linking" not in (await run_doctor(database, TOML)).codes()
