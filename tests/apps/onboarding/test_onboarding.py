"""An onboarding product: a serial key, four tables that cascade, and a fifth that refuses a deletion."""

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


async def create_user_with_rows(world: World, db: asyncpg.Connection) -> dict[str, int]:
    """Create a user with a row in every child table, also the one that refuses; return the rows by table."""
    await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
    for statement in ONBOARDING.children.values():
        await db.execute(statement, "user_1")
    await db.execute(
        "insert into data_migrations (user_id, clerk_id, source_table) select id, clerk_id, 'visits' from users"
    )
    return await count_rows(db)


async def count_rows(db: asyncpg.Connection) -> dict[str, int]:
    tables = [*ONBOARDING.children, "data_migrations"]
    return {table: await db.fetchval(f"select count(*) from {table}") for table in tables}


async def test_a_deletion_that_a_foreign_key_refuses_is_retried(
    world: World, db: asyncpg.Connection, output: Output
) -> None:
    """Until no row refers to the user, the deletion is parked and no row is deleted or restored (K2)."""
    before = await create_user_with_rows(world, db)
    message_id = make_message_id()
    response = await world.deliver(make_event("user.deleted", "user_1", T2), message_id)
    assert (response.status_code, response.json()) == (202, {"outcome": "parked", "reason": "foreign_key_violation"})
    stored = await world.get_event(message_id)
    assert stored
    assert stored["status"] == "failed"
    assert '"table": "data_migrations"' in stored["failures"]
    assert output.log("parked")[0]["table"] == "data_migrations"
    assert await count_rows(db) == before
    assert await db.fetchval("select deleted_at is not null from clerk_sync.identities where clerk_id = 'user_1'")
    assert await world.deliver_ok(make_event("user.updated", "user_1", T3, first_name="Back")) == "stale"
    row = await world.get_user("user_1")
    assert row
    assert row["first_name"] != "Back"
    assert await world.deliver_ok(make_event("user.created", "user_2", T2, **make_email_fields("f"))) == "applied"
    # The email is free although the row still exists, because its user is deleted.
    assert await world.deliver_ok(make_event("user.created", "user_3", T2, **make_email_fields("e"))) == "applied"
    third = await world.get_user("user_3")
    assert third
    assert third["email"] == f"e.{PII_SENTINEL}@example.com"
    await db.execute("delete from data_migrations")

    async def is_deleted() -> bool:
        return await world.get_user("user_1") is None

    await wait_until(is_deleted, 15)
    assert await count_rows(db) == dict.fromkeys(before, 0)
    stored = await world.get_event(message_id)
    assert stored
    assert (stored["status"], stored["payload"]) == ("applied", None)


async def test_an_anonymised_row_keeps_its_key_and_its_child_rows(serve: Serve, db: asyncpg.Connection) -> None:
    """The mapped columns have no personal data, and no child row is changed (K1)."""
    async with serve(mapping=replace(ONBOARDING.mapping, on_delete="anonymize")) as world:
        before = await create_user_with_rows(world, db)
        body = make_event("user.updated", "user_1", T2, image_url="https://img.example.com/1", **make_email_fields("e"))
        await world.deliver_ok(body)
        live = await world.get_user("user_1")
        assert live
        for _ in range(2):
            assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
            row = await world.get_user("user_1")
            assert row
            scrub_expression: dict[str, Any] = dict.fromkeys(["first_name", "last_name", "image_url"])
            assert row == live | scrub_expression | {"email": "user_1@users.invalid"}
            assert await count_rows(db) == before
        assert PII_SENTINEL not in str(await world.get_users())
        assert await world.deliver_ok(make_event("user.updated", "user_1", T3)) == "stale"
        assert await world.deliver_ok(make_event("user.created", "user_2", T3, **make_email_fields("e"))) == "applied"
        await world.check_invariants()


async def test_the_key_is_generated_by_the_table_and_never_changes(world: World, db: asyncpg.Connection) -> None:
    for number in range(3):
        await world.deliver_ok(make_event("user.created", f"user_{number}", T1, **make_email_fields(f"e{number}")))
    keys = await db.fetch("select clerk_id, id from users order by clerk_id")
    for number in range(3):
        await world.deliver_ok(make_event("user.updated", f"user_{number}", T2))
    assert await db.fetch("select clerk_id, id from users order by clerk_id") == keys
