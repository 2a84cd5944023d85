"""An onboarding product: a serial key, four tables that cascade, and a fifth that forbids a deletion."""

from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from tests.apps.shapes import ONBOARDING, Shape
from tests.conftest import Output, Serve
from tests.world import PII_SENTINEL, T1, T2, T3, World, make_email_fields, make_event, make_message_id, wait_until


@pytest.fixture
def shape() -> Shape:
    return ONBOARDING


async def settle(world: World, db: asyncpg.Connection) -> dict[str, int]:
    """Have a user with a row in each table below, and in the one that forbids; return the rows by table."""
    await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
    for statement in ONBOARDING.children.values():
        await db.execute(statement, "user_1")
    await db.execute(
        "insert into data_migrations (user_id, clerk_id, source_table) select id, clerk_id, 'visits' from users"
    )
    return await below(db)


async def below(db: asyncpg.Connection) -> dict[str, int]:
    tables = [*ONBOARDING.children, "data_migrations"]
    return {table: await db.fetchval(f"select count(*) from {table}") for table in tables}


async def test_a_deletion_that_a_foreign_key_forbids_waits_until_nothing_forbids_it(
    world: World, db: asyncpg.Connection, output: Output
) -> None:
    """K2: parked, the table named to operators; nothing is half gone, nobody comes back, all else goes on."""
    before = await settle(world, db)
    message_id = make_message_id()
    answer = await world.deliver(make_event("user.deleted", "user_1", T2), message_id)
    assert (answer.status_code, answer.json()) == (202, {"outcome": "parked", "reason": "foreign_key_violation"})
    filed = await world.get_event(message_id)
    assert filed
    assert filed["status"] == "failed"
    assert '"table": "data_migrations"' in filed["failures"]
    assert output.log("parked")[0]["table"] == "data_migrations"
    assert await below(db) == before
    assert await db.fetchval("select deleted_at is not null from clerk_sync.identities where clerk_id = 'user_1'")
    assert await world.deliver_ok(make_event("user.updated", "user_1", T3, first_name="Back")) == "stale"
    row = await world.get_user("user_1")
    assert row
    assert row["first_name"] != "Back"
    assert await world.deliver_ok(make_event("user.created", "user_2", T2, **make_email_fields("f"))) == "applied"
    # Who has the address now gets it: the one who had it is gone, whatever is left of the row.
    assert await world.deliver_ok(make_event("user.created", "user_3", T2, **make_email_fields("e"))) == "applied"
    third = await world.get_user("user_3")
    assert third
    assert third["email"] == f"e.{PII_SENTINEL}@example.com"
    await db.execute("delete from data_migrations")

    async def gone() -> bool:
        return await world.get_user("user_1") is None

    await wait_until(gone, 15)
    assert await below(db) == dict.fromkeys(before, 0)
    filed = await world.get_event(message_id)
    assert filed
    assert (filed["status"], filed["payload"]) == ("applied", None)


async def test_an_anonymous_row_keeps_its_key_and_its_children(serve: Serve, db: asyncpg.Connection) -> None:
    """K1: nothing personal is left in the mapped columns, and nothing below is touched."""
    async with serve(mapping=replace(ONBOARDING.mapping, on_delete="anonymize")) as world:
        before = await settle(world, db)
        body = make_event("user.updated", "user_1", T2, image_url="https://img.example.com/1", **make_email_fields("e"))
        await world.deliver_ok(body)
        live = await world.get_user("user_1")
        assert live
        for _ in range(2):
            assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
            row = await world.get_user("user_1")
            assert row
            nobody: dict[str, Any] = dict.fromkeys(["first_name", "last_name", "image_url"])
            assert row == live | nobody | {"email": "user_1@users.invalid"}
            assert await below(db) == before
        assert PII_SENTINEL not in str(await world.get_users())
        assert await world.deliver_ok(make_event("user.updated", "user_1", T3)) == "stale"
        assert await world.deliver_ok(make_event("user.created", "user_2", T3, **make_email_fields("e"))) == "applied"
        await world.check_invariants()


async def test_the_key_is_drawn_by_the_table_and_never_changes(world: World, db: asyncpg.Connection) -> None:
    """SHAPES 4: serial, whatever the events."""
    for number in range(3):
        await world.deliver_ok(make_event("user.created", f"user_{number}", T1, **make_email_fields(f"e{number}")))
    keys = await db.fetch("select clerk_id, id from users order by clerk_id")
    for number in range(3):
        await world.deliver_ok(make_event("user.updated", f"user_{number}", T2))
    assert await db.fetch("select clerk_id, id from users order by clerk_id") == keys
