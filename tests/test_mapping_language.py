"""The forms of `[users.columns]` and `[users.deleted]` in a table: inserts, updates, links, deletions, restorations."""

import re
from typing import Any

import asyncpg
import pytest

from sync_service.mapping.toml import parse_mapping
from sync_service.postgres.pool import open_database
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.store.changes import restore_user
from tests.test_unique_values import make_address
from tests.world import T1, T2, T3, World, make_event, run_world

TABLE = """
create type status as enum ('trial', 'active', 'deleted');
create table members (
    id varchar(30) primary key,
    clerk_id text unique,
    email text unique,
    nickname text not null default 'friend',
    bio text,
    plan status not null default 'trial',
    handle text unique,
    first_seen_name text not null,
    is_superuser boolean not null,
    is_active boolean not null,
    settings json not null default '{}',
    created_at timestamptz not null,
    updated_at timestamp not null,
    deleted_at timestamptz
);
"""
TOML = """
[users]
table = "members"
clerk_id = "clerk_id"
on_delete = "soft"
link_by_external_id = true
link_by_verified_email = true
[users.columns]
id = { generate = "usr_{nanoid}" }
email = "primary_email"
nickname = { from = "first_name", on_null = "keep" }
bio = { from = "public_metadata.bio", on_null = "keep" }
handle = { from = ["username", "email_local_part"], write = "insert" }
first_seen_name = { from = "full_name", write = "insert" }
is_superuser = false
is_active = { constant = true, write = "insert" }
settings = { from = "public_metadata.settings", when_null = "none" }
created_at = { generate = "now", write = "insert" }
updated_at = { generate = "now" }
[users.deleted]
is_active = false
plan = "deleted"
deleted_at = { generate = "now" }
"""
KEY = re.compile(r"usr_[A-Za-z0-9_-]{21}")


async def get_member(world: World, user_id: str = "user_1") -> dict[str, Any]:
    row = await world.get_user(user_id)
    assert row is not None
    return row


async def test_each_form_is_written_on_insert_and_on_update_as_it_says(
    settings: Settings, db: asyncpg.Connection
) -> None:
    await db.execute(TABLE)
    async with run_world(settings, db, mapping=parse_mapping(TOML), sync_api_token="t" * 32) as world:
        first = make_event("user.created", "user_1", T1, first_name=None, **make_address("ada@example.com"))
        assert await world.deliver_ok(first) == "applied"
        row = await get_member(world)
        assert KEY.fullmatch(row["id"])
        assert (row["nickname"], row["bio"], row["handle"]) == ("friend", None, "ada")
        assert (row["is_superuser"], row["is_active"], row["plan"]) == (False, True, "trial")
        response = await world.client.get("/users/user_1", headers={"authorization": f"Bearer {'t' * 32}"})
        assert response.json()["user"]["id"] == row["id"], "the answer shows the key of the row"

        # The app changes its values; an event with the same content and one without a name change none of them.
        await db.execute("update members set is_superuser = true, nickname = 'Countess', bio = 'Poet', handle = 'al'")
        before = await get_member(world)
        same = make_event("user.updated", "user_1", T2, first_name=None, **make_address("ada@example.com"))
        assert await world.deliver_ok(same) == "applied"
        assert await get_member(world) == before, "not even updated_at moves"

        changed = make_event("user.updated", "user_1", T3, first_name="Ada", last_name=None, username="ada2")
        assert await world.deliver_ok(changed) == "applied"
        after = await get_member(world)
        assert after["updated_at"] > before["updated_at"]
        assert after == before | {"nickname": "Ada", "email": None, "updated_at": after["updated_at"]}


async def test_a_value_for_inserts_that_does_not_fit_refuses_no_update(
    settings: Settings, db: asyncpg.Connection
) -> None:
    """A user without any name cannot be inserted into this table, but an existing row is updated."""
    await db.execute(TABLE)
    nameless = {"first_name": None, "last_name": None}
    async with run_world(settings, db, mapping=parse_mapping(TOML)) as world:
        assert await world.deliver_ok(make_event("user.created", "user_1", T1)) == "applied"
        event = make_event("user.updated", "user_1", T2, **nameless, **make_address("ada@example.com"))
        assert await world.deliver_ok(event) == "applied"
        assert (await get_member(world))["email"] == "ada@example.com"
        assert await world.deliver_ok(make_event("user.created", "user_2", T2, **nameless)) == "parked"
        failure = await db.fetchval("select failures -> 0 ->> 'column' from clerk_sync.events where status = 'failed'")
        assert failure == "first_seen_name"


@pytest.mark.parametrize("by", ["external_id", "email"])
async def test_a_linked_row_keeps_the_values_of_the_app(settings: Settings, db: asyncpg.Connection, by: str) -> None:
    await db.execute(TABLE)
    await db.execute(
        "insert into members values ('usr_old', null, 'ada@example.com', 'Countess', 'Poet', 'active', 'al', 'First',"
        " true, false, '{}', '2020-01-01', '2020-01-01')"
    )
    data = make_address("ada@example.com") if by == "email" else {"external_id": "usr_old"}
    async with run_world(settings, db, mapping=parse_mapping(TOML)) as world:
        event = make_event("user.created", "user_1", T1, first_name=None, **data)
        assert await world.deliver_ok(event) == "applied"
        row = await get_member(world)
        assert (row["id"], row["nickname"], row["handle"], row["first_seen_name"]) == (
            *("usr_old", "Countess", "al", "First"),
        )
        assert (row["is_superuser"], row["is_active"]) == (True, False), "the app's own block stays"
        assert (row["created_at"][:4] == "2020", row["updated_at"][:4] == "2020") == (True, False)
        assert await db.fetchval("select count(*) from members") == 1
        # Another user with an external ID that is the key of nobody, or of a row with a Clerk ID, gets a row.
        event = make_event("user.created", "user_2", T1, external_id="usr_old")
        assert await world.deliver_ok(event) == "applied"
        assert KEY.fullmatch((await get_member(world, "user_2"))["id"])


async def test_a_deletion_marks_the_row_and_a_restoration_removes_the_marks(
    settings: Settings, db: asyncpg.Connection
) -> None:
    await db.execute(TABLE)
    mapping = parse_mapping(TOML)
    async with run_world(settings, db, mapping=mapping) as world:
        created = make_event("user.created", "user_1", T1, **make_address("ada@example.com"))
        assert await world.deliver_ok(created) == "applied"
        await db.execute("update members set plan = 'active', updated_at = '2020-01-01'")
        assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
        row = await get_member(world)
        assert (row["is_active"], row["plan"], row["email"]) == (False, "deleted", None)
        assert (row["deleted_at"] is None, row["updated_at"][:4] == "2020") == (False, False)
        late = make_event("user.updated", "user_1", T3, **make_address("ada@example.com"))
        assert await world.deliver_ok(late) == "stale"
        assert await world.deliver_ok(make_event("user.deleted", "user_1")) in {"applied", "duplicate"}
        assert await get_member(world) == row
        assert settings.database
        database = await open_database(settings.database)
        async with Store(database, mapping).acquire() as bound:
            assert await restore_user(bound, "user_1")
        await database.aclose()
        row = await get_member(world)
        assert (row["is_active"], row["plan"], row["deleted_at"]) == (True, "active", None)
        assert await world.deliver_ok(late) == "applied"
        assert (await get_member(world))["email"] == "ada@example.com"
        assert await db.fetchval("select count(*) from clerk_sync.deletion_marks") == 0
