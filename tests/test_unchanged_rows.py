"""An event that changes no mapped column writes no row of the app; the identity still learns its version."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from sync_service.mapping.toml import parse_mapping
from sync_service.settings import Settings
from tests.world import T1, T2, T3, World, count_lock_waiters, make_event, run_world, wait_until

pytestmark = pytest.mark.every_postgres

CREATE = """
create table members (
    id bigserial primary key, clerk_id text unique not null, first_name citext, data jsonb, note text,
    writes int not null default 0
);
create function count_write() returns trigger language plpgsql as
$$ begin new.writes := old.writes + 1; return new; end $$;
create trigger count_write before update on members for each row execute function count_write();
"""
TOML = """
[users]
table = "members"
clerk_id = "clerk_id"
[users.columns]
first_name = "first_name"
data = "public_metadata"
{column}
[changes]
record = {record}
"""
# A value that is written on insert only could refuse the insert, so an existing row is updated by a step of its own.
UPDATE_FIRST = 'note = { from = "last_name", write = "insert" }'


@pytest.fixture(
    params=[("", "false"), ("", "true"), (UPDATE_FIRST, "false"), (UPDATE_FIRST, "true")],
    ids=["", "recorded", "update first", "update first, recorded"],
)
async def world(request: pytest.FixtureRequest, settings: Settings, db: asyncpg.Connection) -> AsyncIterator[World]:
    await db.execute("create extension citext")
    await db.execute(CREATE)
    column, record = request.param
    mapping = parse_mapping(TOML.format(column=column, record=record))
    async with run_world(settings, db, mapping=mapping) as running:
        yield running


async def deliver(world: World, updated_at: int, name: str = "Ada", **data: Any) -> str:
    return await world.deliver_ok(make_event("user.updated", "user_1", updated_at, first_name=name, **data))


async def read_writes(world: World) -> tuple[str, int]:
    row = await world.db.fetchrow("select first_name, writes from members where clerk_id = 'user_1'")
    assert row
    return row["first_name"], row["writes"]


async def test_an_event_that_changes_no_column_writes_no_row(world: World) -> None:
    data: dict[str, Any] = {"public_metadata": {"plan": "pro", "seats": [1, 2.5]}}
    assert await deliver(world, T1, **data) == "applied"
    assert await deliver(world, T2, last_sign_in_at=T2, **data) == "applied"
    assert await read_writes(world) == ("Ada", 0)
    version = await world.db.fetchval("select version from clerk_sync.identities where clerk_id = 'user_1'")
    assert version == T2
    assert await deliver(world, T1, "Old") == "stale"
    assert await deliver(world, T3, public_metadata={}) == "applied"
    assert await read_writes(world) == ("Ada", 1)


async def test_a_value_that_only_its_type_takes_for_equal_is_written(world: World) -> None:
    await deliver(world, T1)
    await deliver(world, T2, "ADA")
    assert await read_writes(world) == ("ADA", 1)


async def test_the_row_is_compared_after_its_lock(world: World, database: str) -> None:
    """The event has the values from before the app's change, for whose lock it waits."""
    await deliver(world, T1)
    other = await asyncpg.connect(database)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("update members set first_name = 'App', writes = 0")
    waiting = asyncio.create_task(deliver(world, T2))
    await wait_until(lambda: count_lock_waiters(world.db))
    await transaction.commit()
    await other.close()
    assert await waiting == "applied"
    assert (await read_writes(world))[0] == "Ada"
