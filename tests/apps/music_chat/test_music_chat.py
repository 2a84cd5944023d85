"""A music app's chat history with `neon_auth.users_sync`: filled by an earlier provider, or created by `migrate`."""

import json
import shutil
from pathlib import Path

import asyncpg
import pytest

from tests.apps.conftest import open_connection
from tests.apps.shapes import FOLDER, MUSIC_CREATED, MUSIC_FOUND, Shape
from tests.processes import run_command
from tests.world import PII_SENTINEL, T0, T1, T2, T3, World, make_email_fields, make_event


@pytest.fixture(params=[MUSIC_CREATED, MUSIC_FOUND], ids=lambda shape: shape.name)
def shape(request: pytest.FixtureRequest) -> Shape:
    found: Shape = request.param
    return found


async def test_the_app_s_own_queries_still_work(world: World, db: asyncpg.Connection) -> None:
    """The foreign keys cascade, and messages can be joined with name and email."""
    keys = await db.fetch(
        "select conrelid::regclass::text as child, confdeltype from pg_constraint"
        " where confrelid = 'neon_auth.users_sync'::regclass order by 1"
    )
    assert [(key["child"], key["confdeltype"]) for key in keys] == [
        (child, b"c") for child in ("chat_messages", "message_feedback", "track_likes")
    ]
    await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("a")))
    await db.execute(MUSIC_CREATED.children["chat_messages"], "user_1")
    joined = await db.fetchrow("select name, email from chat_messages join neon_auth.users_sync u on u.id = clerk_id")
    assert joined
    assert joined["name"] == f"Ada {PII_SENTINEL} Example {PII_SENTINEL}"
    assert joined["email"] == f"a.{PII_SENTINEL}@example.com"


async def test_the_document_is_clerk_s_user_with_the_generated_columns_keys(world: World, shape: Shape) -> None:
    body = make_event(
        "user.created", "user_1", T1, **make_email_fields("a"), private_metadata={"x": 1}, unsafe_metadata={"y": 2}
    )
    await world.deliver_ok(body)
    row = await world.get_user("user_1")
    assert row
    clerk_s = {name: v for name, v in body["data"].items() if name not in {"private_metadata", "unsafe_metadata"}}
    keys = {
        "display_name": f"Ada {PII_SENTINEL} Example {PII_SENTINEL}",
        "primary_email": f"a.{PII_SENTINEL}@example.com",
        "signed_up_at_millis": T0,
    }
    assert row["raw_json"] == (clerk_s | keys if shape.found else clerk_s)


async def test_a_soft_deletion_keeps_the_user_s_rows(world: World, db: asyncpg.Connection) -> None:
    """No row is deleted, the email is free, the first deletion time stays, and no event restores the user."""
    await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("a")))
    for statement in MUSIC_CREATED.children.values():
        await db.execute(statement, "user_1")
    await world.deliver_ok(make_event("user.deleted", "user_1", T2))
    first = await world.get_user("user_1")
    assert first
    assert (first["email"], bool(first["deleted_at"])) == (None, True)
    assert first["name"] == f"Ada {PII_SENTINEL} Example {PII_SENTINEL}"
    for table in MUSIC_CREATED.children:
        assert await db.fetchval(f"select count(*) from {table}") == 1
    await world.deliver_ok(make_event("user.deleted", "user_1", T3))
    assert await world.deliver_ok(make_event("user.updated", "user_1", T3 + 1, **make_email_fields("a"))) == "stale"
    assert await world.get_user("user_1") == first
    await world.deliver_ok(make_event("user.created", "user_2", T3, **make_email_fields("a")))
    second = await world.get_user("user_2")
    assert second
    assert second["email"] == f"a.{PII_SENTINEL}@example.com"


async def test_existing_users_are_not_changed(world: World, shape: Shape, db: asyncpg.Connection) -> None:
    if not shape.found:
        pytest.skip("this table has no existing users")
    before = await world.get_user("old_1")
    await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("a")))
    await world.deliver_ok(make_event("user.deleted", "user_1"))
    assert await world.get_user("old_1") == before


async def test_migrate_creates_the_table_only_if_it_is_missing(
    empty_database: str, shape: Shape, tmp_path: Path
) -> None:
    """The command reads the owner's `sync.toml`; a second run changes no column."""
    shutil.copy(FOLDER / shape.folder / "sync.toml", tmp_path)
    async with open_connection(empty_database) as db:
        if shape.found:
            await db.execute(shape.sql("found.sql"))
        described = []
        for _ in range(2):
            assert run_command("migrate", cwd=tmp_path, DATABASE_URL=empty_database).returncode == 0
            described.append(await db.fetchval(_DESCRIBED))
        assert described[0] == described[1]
        columns = json.loads(described[0])
        assert [column["name"] for column in columns] == [
            *("raw_json", "id", "name", "email", "created_at", "updated_at", "deleted_at"),
        ]
        generated = [column["name"] for column in columns if column["generated"]]
        assert generated == (["id", "name", "email", "created_at"] if shape.found else [])
        assert await db.fetchval("select to_regclass('neon_auth.users_sync_deleted_at_idx')")
        assert await db.fetchval("select to_regclass('public.users')") is None


_DESCRIBED = """
select json_agg(json_build_object('name', attname, 'type', format_type(atttypid, atttypmod), 'generated', attgenerated)
    order by attnum)
from pg_attribute where attrelid = 'neon_auth.users_sync'::regclass and attnum > 0
"""
