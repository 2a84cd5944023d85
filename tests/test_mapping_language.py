"""The forms of `[users.columns]` and `[users.deleted]` in a table: inserts, updates, links, deletions, restorations."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import sync_service
from sync_service.clerk.events import parse_event
from sync_service.dsn import parse_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.toml import parse_mapping
from sync_service.postgres.pool import open_database
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.store.deletions import restore_user
from sync_service.sync.apply import Applier
from sync_service.sync.email_conflict import restore_emails
from tests.test_unique_values import make_address
from tests.world import (
    T1,
    T2,
    T3,
    World,
    count_lock_waiters,
    encode_body,
    make_event,
    make_message_id,
    run_world,
    wait_until,
)

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


@pytest.fixture
async def applier(database: str, db: asyncpg.Connection) -> AsyncIterator[Applier]:
    """An applier without the HTTP interface, for the table of this file."""
    await db.execute(TABLE)
    pool = await open_database(parse_dsn(database))
    yield Applier(Store(pool, parse_mapping(TOML)))
    await pool.aclose()


async def apply(applier: Applier, *bodies: dict[str, Any]) -> list[str]:
    events = [parse_event(make_message_id(), encode_body(body)) for body in bodies]
    return [outcome.outcome for outcome in await applier.apply(events)]


async def restore(applier: Applier, user_id: str) -> bool:
    async with applier.store.acquire() as bound:
        return await restore_user(bound, user_id)


async def get_row(db: asyncpg.Connection, user_id: str) -> dict[str, Any]:
    row = await db.fetchrow("select * from members where clerk_id = $1", user_id)
    assert row is not None
    return dict(row)


async def test_a_batch_follows_the_same_forms(applier: Applier, db: asyncpg.Connection) -> None:
    """One statement inserts user_2 and updates user_1, who has no name at Clerk any more."""
    assert await apply(applier, make_event("user.created", "user_1", T1, first_name="Ada")) == ["applied"]
    before = await get_row(db, "user_1")
    changed = make_event("user.updated", "user_1", T2, first_name=None, **make_address("ada@example.com"))
    created = make_event("user.created", "user_2", T2, first_name=None)
    unchanged = make_event("user.created", "user_3", T2, first_name="Bob")
    assert await apply(applier, changed, created, unchanged) == ["applied"] * 3
    after = await get_row(db, "user_1")
    assert after["updated_at"] > before["updated_at"]
    assert after == before | {"email": "ada@example.com", "updated_at": after["updated_at"]}
    names = await db.fetch("select nickname from members order by clerk_id")
    assert [row["nickname"] for row in names] == ["Ada", "friend", "Bob"]
    assert await db.fetchval("select count(distinct id) from members") == 3


@pytest.mark.parametrize(("first_name", "shown"), [(None, "Countess"), ("Ada", "Ada")])
async def test_a_row_that_the_app_inserts_at_the_same_moment_keeps_its_values(
    applier: Applier, db: asyncpg.Connection, database: str, first_name: str | None, shown: str
) -> None:
    """The insert waits for the app's transaction and then updates the row: the default never replaces its value."""
    watcher = await asyncpg.connect(database)
    async with db.transaction():
        await db.execute(
            "insert into members values ('usr_app', 'user_1', null, 'Countess', null, 'active', 'al', 'First', true,"
            " true, '{}', now(), now())"
        )
        event = make_event("user.created", "user_1", T1, first_name=first_name)
        applied = asyncio.create_task(apply(applier, event))
        await wait_until(lambda: count_lock_waiters(watcher))
    assert await applied == ["applied"]
    await watcher.close()
    row = await get_row(db, "user_1")
    assert (row["id"], row["nickname"], row["is_superuser"], row["handle"]) == ("usr_app", shown, True, "al")


async def test_a_deletion_marks_the_row_and_a_restoration_removes_the_marks(
    applier: Applier, db: asyncpg.Connection
) -> None:
    """A status becomes the one before the deletion; a late event of a deleted user removes no mark."""
    created = make_event("user.created", "user_1", T1, **make_address("ada@example.com"))
    assert await apply(applier, created) == ["applied"]
    await db.execute("update members set plan = 'active', updated_at = '2020-01-01'")
    deleted = make_event("user.deleted", "user_1")
    assert await apply(applier, deleted) == ["applied"]
    row = await get_row(db, "user_1")
    assert (row["is_active"], row["plan"], row["email"]) == (False, "deleted", None)
    assert (row["deleted_at"] is None, row["updated_at"].year == 2020) == (False, False)
    late = make_event("user.updated", "user_1", T3, **make_address("ada@example.com"))
    assert await apply(applier, late) == ["stale"]
    await apply(applier, deleted)
    assert await get_row(db, "user_1") == row
    assert await restore(applier, "user_1")
    row = await get_row(db, "user_1")
    assert (row["is_active"], row["plan"], row["deleted_at"]) == (True, "active", None)
    assert await apply(applier, late) == ["applied"]
    assert (await get_row(db, "user_1"))["email"] == "ada@example.com"
    assert await db.fetchval("select count(*) from clerk_sync.deletion_marks") == 0


async def test_a_restoration_without_a_value_before_takes_the_default(applier: Applier, db: asyncpg.Connection) -> None:
    """The app had set its mark itself, before it asked Clerk to delete the user."""
    await apply(applier, make_event("user.created", "user_1", T1))
    await db.execute("update members set plan = 'deleted', is_active = false")
    await apply(applier, make_event("user.deleted", "user_1"))
    assert await restore(applier, "user_1")
    row = await get_row(db, "user_1")
    assert (row["is_active"], row["plan"]) == (True, "trial")


async def test_a_deferred_deletion_keeps_the_first_value_and_forgets_it_with_the_row(
    database: str, db: asyncpg.Connection
) -> None:
    await db.execute(TABLE)
    pool = await open_database(parse_dsn(database))
    toml = TOML.replace('"soft"', '"cascade"\ndelete_grace = "7d"')
    applier = Applier(Store(pool, parse_mapping(toml)))
    deleted = make_event("user.deleted", "user_1")
    await apply(applier, make_event("user.created", "user_1", T1))
    assert await apply(applier, deleted, deleted) == ["parked", "parked"]
    assert (await get_row(db, "user_1"))["plan"] == "deleted"
    async with applier.store.acquire() as bound:
        await db.execute(bound.queries.delete_rows, ["user_1"], [], "1000")
    assert await db.fetchval("select count(*) from members") == 0
    assert await db.fetchval("select count(*) from clerk_sync.deletion_marks") == 0
    await pool.aclose()


async def test_an_anonymous_row_keeps_what_identifies_nobody(database: str, db: asyncpg.Connection) -> None:
    """Values that were written on insert only are personal too; constants and the generated key stay."""
    await db.execute(TABLE)
    pool = await open_database(parse_dsn(database))
    applier = Applier(Store(pool, parse_mapping(TOML.replace('"soft"', '"anonymize"'))))
    created = make_event("user.created", "user_1", T1, username="ada", **make_address("ada@example.com"))
    await apply(applier, created)
    before = await get_row(db, "user_1")
    await apply(applier, make_event("user.deleted", "user_1"))
    row = await get_row(db, "user_1")
    personal = {"email": None, "nickname": "user_1", "handle": None, "first_seen_name": "user_1", "settings": '"none"'}
    marks = {"is_active": False, "plan": "deleted", "deleted_at": row["deleted_at"], "updated_at": row["updated_at"]}
    assert row == before | personal | marks
    assert row["updated_at"] > before["updated_at"]
    await pool.aclose()


async def test_a_released_value_moves_the_time_of_the_change(applier: Applier, db: asyncpg.Connection) -> None:
    """user_2 has the address of user_1 now, whose own event is late."""
    address = make_address("ada@example.com")
    await apply(applier, make_event("user.created", "user_1", T1, **address))
    before = await get_row(db, "user_1")
    assert await apply(applier, make_event("user.created", "user_2", T2, username="bob", **address)) == ["applied"]
    after = await get_row(db, "user_1")
    assert after == before | {"email": None, "updated_at": after["updated_at"]}
    assert after["updated_at"] > before["updated_at"]


async def test_an_adopted_row_loses_the_marks_of_this_service_only(applier: Applier, db: asyncpg.Connection) -> None:
    """The app removes the Clerk ID of deleted users; user_2 is the same person, with the key as the external ID."""
    await apply(applier, make_event("user.created", "user_1", T1))
    key = (await get_row(db, "user_1"))["id"]
    await db.execute("update members set plan = 'active'")
    await apply(applier, make_event("user.deleted", "user_1"))
    await db.execute("update members set clerk_id = null")
    assert await apply(applier, make_event("user.created", "user_2", T2, external_id=key)) == ["applied"]
    row = await get_row(db, "user_2")
    assert (row["id"], row["is_active"], row["plan"], row["deleted_at"]) == (key, True, "active", None)


async def test_a_conflict_never_takes_a_value_that_the_app_may_have_set(database: str, db: asyncpg.Connection) -> None:
    """user_1 has no username at Clerk and chose one in the app; user_2's row shows the same one once it is free."""
    await db.execute("create table people (id serial primary key, clerk_id text unique, username text unique)")
    toml = '[users]\ntable = "people"\nclerk_id = "clerk_id"\n[users.columns]\n'
    mapping = parse_mapping(f'{toml}username = {{ from = "username", on_null = "keep" }}')
    pool = await open_database(parse_dsn(database))
    applier = Applier(Store(pool, mapping))
    await apply(applier, make_event("user.created", "user_1", T1))
    await db.execute("update people set username = 'ada'")
    assert await apply(applier, make_event("user.created", "user_2", T2, username="ada")) == ["applied"]
    select = "select username from people order by clerk_id"
    assert [row["username"] for row in await db.fetch(select)] == ["ada", None]
    assert await apply(applier, make_event("user.updated", "user_1", T3)) == ["applied"]
    assert [row["username"] for row in await db.fetch(select)] == ["ada", None]
    await db.execute("update people set username = 'countess' where clerk_id = 'user_1'")
    assert await restore_emails(applier.store) == (1, "")
    assert [row["username"] for row in await db.fetch(select)] == ["countess", "ada"]
    await pool.aclose()


async def test_every_statement_of_the_forms_is_valid(applier: Applier, db: asyncpg.Connection) -> None:
    queries = await applier.store.binding.ensure_bound(db)
    sources: list[Any] = [queries, *queries.claims]
    statements = [getattr(source, name) for source in sources for name in source.__slots__]
    prepared = [await db.prepare(text) for text in statements if isinstance(text, str)]
    assert len(prepared) >= 12


async def test_domains_and_types_without_equality_follow_the_forms(database: str, db: asyncpg.Connection) -> None:
    """A required domain refuses null before its default replaces it; PostgreSQL cannot compare json and points."""
    await db.execute(
        "create domain tone as varchar(9) default 'calm'; create domain mood as tone not null;"
        "create table people (id serial primary key, clerk_id text unique, mood mood, place point, notes json[],"
        " updated_at date)"
    )
    mapping = parse_mapping(
        '[users]\ntable = "people"\nclerk_id = "clerk_id"\n[users.columns]\n'
        'mood = { from = "public_metadata.mood", on_null = "keep" }\nplace = "public_metadata.place"\n'
        'notes = "public_metadata.notes"\nupdated_at = { generate = "now" }'
    )
    pool = await open_database(parse_dsn(database))
    applier = Applier(Store(pool, mapping))
    metadata = {"place": "(1,2)", "notes": [{"a": 1}]}
    assert await apply(applier, make_event("user.created", "user_1", T1, public_metadata=metadata)) == ["applied"]
    assert await db.fetchval("select mood from people") == "calm"
    await db.execute("update people set mood = 'glad', updated_at = '2020-01-01'")
    assert await apply(applier, make_event("user.updated", "user_1", T2, public_metadata=metadata)) == ["applied"]
    assert await db.fetchval("select updated_at::text || mood from people") == "2020-01-01glad"
    changed = make_event("user.updated", "user_1", T3, public_metadata=metadata | {"place": "(1,3)"})
    assert await apply(applier, changed) == ["applied"]
    assert await db.fetchval("select updated_at > '2020-01-01' from people")
    await pool.aclose()


PAGE = (Path(sync_service.__file__).parent / "docs" / "mapping.md").read_text()


async def test_the_trigger_of_the_documentation_writes_rows_with_the_user_or_not_at_all(
    database: str, db: asyncpg.Connection
) -> None:
    await db.execute(
        "create table profiles (user_id text unique references users on delete cascade);"
        "create table credits (user_id text references users on delete cascade, amount integer check (amount < 9))"
    )
    [trigger] = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    await db.execute(trigger)
    pool = await open_database(parse_dsn(database))
    applier = Applier(Store(pool, DEFAULT))
    created = make_event("user.created", "user_1", T1)
    assert await apply(applier, created) == ["parked"]
    assert await db.fetchval("select count(*) from users") + await db.fetchval("select count(*) from profiles") == 0
    await db.execute("alter table credits drop constraint credits_amount_check")
    assert await apply(applier, created) == ["applied"]
    assert await apply(applier, make_event("user.updated", "user_1", T2)) == ["applied"]
    rows = await db.fetch("select user_id, amount from credits join profiles using (user_id)")
    assert [tuple(row) for row in rows] == [("user_1", 100)]
    await pool.aclose()
