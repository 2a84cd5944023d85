"""Each change of the app's table is recorded by the transaction that makes it, and nothing else is recorded."""

import asyncio
import json
import random
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from sync_service.clerk.events import Event
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.toml import parse_mapping
from sync_service.store.deletions import restore_user
from sync_service.sync.apply import Applier
from sync_service.sync.email_conflict import restore_emails
from tests.feed.conftest import OpenApplier, make, read_entries, read_types
from tests.world import PII_SENTINEL, T1, T2, T3, make_email_fields

pytestmark = pytest.mark.every_postgres

MAPPING = replace(DEFAULT, records_changes=True)
ALL = {*DEFAULT.columns, "id"}

PEOPLE = """
create table people (
    id serial primary key, clerk_id text unique, email text unique, name text, plan text not null default 'free',
    handle text, changed_at timestamptz, deleted_at timestamptz, status text not null default 'active'
)
"""
TOML = """
[changes]
record = true
[users]
table = "people"
clerk_id = "clerk_id"
link_by_verified_email = true
{options}
[users.columns]
email = "primary_email"
name = {{ from = "first_name", on_null = "keep" }}
handle = {{ from = "username", write = "insert" }}
changed_at = {{ generate = "now" }}
"""
SOFT = TOML.format(options='on_delete = "soft"\ndeleted = { status = "gone" }')


async def test_the_life_of_a_user_is_recorded_without_personal_data(
    open_applier: OpenApplier, db: asyncpg.Connection
) -> None:
    """A creation, the columns that changed, one deletion; a repeated, stale, empty or unknown change has no entry."""
    applier = await open_applier(MAPPING)
    created = make("user.created", "user_1", T1, **make_email_fields("a"))
    await applier.apply([created])
    await applier.apply([created])
    await applier.apply([make("user.updated", "user_1", T3, first_name="Grace", **make_email_fields("a"))])
    await applier.apply([make("user.updated", "user_1", T2, first_name="Stale", **make_email_fields("a"))])
    for _ in range(2):
        await applier.apply([make("user.deleted", "user_1", T3), make("user.deleted", "user_unknown", T3)])
    assert await read_entries(db) == [
        ("user.created", "user_1", ALL),
        ("user.updated", "user_1", {"first_name", "updated_at"}),
        ("user.deleted", "user_1", set()),
    ]
    stored = str(await db.fetch("select to_jsonb(c) from clerk_sync.changes as c"))
    assert PII_SENTINEL not in stored
    assert "Grace" not in stored


@pytest.mark.parametrize("source", ["login", "profile", "reconcile", "replay"])
async def test_a_user_is_created_once_by_the_first_source(
    open_applier: OpenApplier, db: asyncpg.Connection, source: str
) -> None:
    """The webhook of the creation comes later, and brings a newer version."""
    applier = await open_applier(MAPPING)
    await applier.with_source(source).apply([make("user.updated", "user_1", T1)])
    await applier.apply([make("user.created", "user_1", T2, first_name="Grace")])
    assert await read_entries(db) == [
        ("user.created", "user_1", ALL),
        ("user.updated", "user_1", {"first_name", "updated_at"}),
    ]


async def test_a_change_that_the_table_refuses_has_no_entry(open_applier: OpenApplier, db: asyncpg.Connection) -> None:
    """The other event of its batch has one. The replay records the change once the table takes it."""
    applier = await open_applier(MAPPING)
    await db.execute("alter table users add constraint refuses check (first_name is distinct from 'Refused')")
    refused = make("user.created", "user_1", T1, first_name="Refused")
    outcomes = await applier.apply([refused, make("user.created", "user_2", T1)])
    assert [outcome.outcome for outcome in outcomes] == ["parked", "applied"]
    assert await read_entries(db) == [("user.created", "user_2", ALL)]
    await db.execute("alter table users drop constraint refuses")
    await applier.with_source("replay").apply([refused])
    assert await read_entries(db) == [("user.created", "user_2", ALL), ("user.created", "user_1", ALL)]


async def test_a_newer_version_with_the_same_values_is_no_change(
    open_applier: OpenApplier, db: asyncpg.Connection
) -> None:
    """A sign-in changes no mapped column of this table; neither does a trigger that writes values in its own way."""
    await db.execute(PEOPLE)
    await db.execute(
        "create function shout() returns trigger language plpgsql as"
        " $$ begin new.name = upper(new.name); return new; end $$;"
        "create trigger shout before insert or update on people for each row execute function shout()"
    )
    applier = await open_applier(parse_mapping(TOML.format(options="")))
    for version in (T1, T2, T3):
        await applier.apply([make("user.updated", "user_1", version, last_sign_in_at=version, first_name="Ada")])
    assert await read_types(db) == ["user.created"]
    await applier.apply([make("user.updated", "user_1", T3 + 1, first_name="Grace")])
    assert (await read_entries(db))[-1] == ("user.updated", "user_1", {"name", "changed_at"})


async def test_without_recording_there_is_no_entry(open_applier: OpenApplier, db: asyncpg.Connection) -> None:
    """Users from before recording began are not created a second time; their next change is an update."""
    await (await open_applier(DEFAULT)).apply([make("user.created", "user_1", T1)])
    assert await read_types(db) == []
    await (await open_applier(MAPPING)).apply([make("user.updated", "user_1", T2)])
    assert await read_entries(db) == [("user.updated", "user_1", {"updated_at"})]


async def test_a_row_that_the_app_removed_is_not_created_a_second_time(
    open_applier: OpenApplier, db: asyncpg.Connection
) -> None:
    """It is an update of all columns; if the user is deleted then, the entry has the key that the row had."""
    applier = await open_applier(MAPPING)
    await applier.apply([make("user.created", "user_1", T1)])
    await db.execute("delete from users")
    await applier.apply([make("user.updated", "user_1", T2)])
    await db.execute("delete from users")
    await applier.apply([make("user.deleted", "user_1", T3)])
    assert await read_entries(db) == [
        ("user.created", "user_1", ALL),
        ("user.updated", "user_1", ALL),
        ("user.deleted", "user_1", set()),
    ]
    keys = await db.fetch("select app_key from clerk_sync.changes")
    assert {json.loads(row["app_key"]) for row in keys} == {"user_1"}


async def test_a_row_of_the_app_is_updated_or_linked_and_not_created(
    open_applier: OpenApplier, db: asyncpg.Connection
) -> None:
    """The app has welcomed these users already. The link names the column of the Clerk ID."""
    await db.execute(PEOPLE)
    await db.execute("insert into people (clerk_id, name) values ('user_1', 'Old'), (null, 'Older')")
    await db.execute("update people set email = $1 where clerk_id is null", f"b.{PII_SENTINEL}@example.com")
    applier = await open_applier(parse_mapping(TOML.format(options="")))
    await applier.apply([make("user.updated", "user_1", T1, first_name="New")])
    await applier.apply([make("user.created", "user_2", T1, first_name="Older", **make_email_fields("b"))])
    assert await read_entries(db) == [
        ("user.updated", "user_1", {"name", "changed_at"}),
        ("user.updated", "user_2", {"clerk_id", "changed_at"}),
    ]
    assert [json.loads(row[0]) for row in await db.fetch("select app_key from clerk_sync.changes order by id")] == [
        1,
        2,
    ]


async def test_an_email_that_a_user_loses_and_gets_back_is_recorded(
    open_applier: OpenApplier, db: asyncpg.Connection
) -> None:
    """The loser of the address has an update, and one more once it is free."""
    applier = await open_applier(MAPPING)
    await applier.apply([make("user.created", "user_1", T1, **make_email_fields("e"))])
    await applier.apply([make("user.created", "user_2", T2, **make_email_fields("e"))])
    await applier.apply([make("user.deleted", "user_2", T3)])
    await restore_emails(applier.store)
    assert await read_entries(db) == [
        ("user.created", "user_1", ALL),
        ("user.updated", "user_1", {"email"}),
        ("user.created", "user_2", ALL),
        ("user.deleted", "user_2", set()),
        ("user.updated", "user_1", {"email"}),
    ]


@pytest.mark.parametrize("grace", [timedelta(), timedelta(days=7)], ids=["at once", "deferred"])
async def test_soft_deletions_and_restored_users_have_types_of_their_own(
    open_applier: OpenApplier, db: asyncpg.Connection, grace: timedelta
) -> None:
    """Each is recorded once, and a restored user is updated again."""
    await db.execute(PEOPLE)
    applier = await open_applier(replace(parse_mapping(SOFT), delete_grace=grace))
    await applier.apply([make("user.created", "user_1", T1)])
    for _ in range(2):
        await applier.apply([make("user.deleted", "user_1", T2)])
    async with applier.store.acquire() as bound:
        for _ in range(2):
            await restore_user(bound, "user_1")
    await applier.apply([make("user.updated", "user_1", T3, first_name="Back")])
    assert await read_types(db) == ["user.created", "user.soft_deleted", "user.restored", "user.updated"]


async def test_anonymized_users_have_a_type_of_their_own(open_applier: OpenApplier, db: asyncpg.Connection) -> None:
    """The row stays without its personal data."""
    applier = await open_applier(replace(MAPPING, on_delete="anonymize"))
    await applier.apply([make("user.created", "user_1", T1)])
    for _ in range(2):
        await applier.apply([make("user.deleted", "user_1", T2)])
    assert await read_types(db) == ["user.created", "user.anonymized"]


# The changes of the table as PostgreSQL sees them: the columns of each row that really changed.
WATCH = """
create table seen (xid xid8 default pg_current_xact_id(), clerk_id text, was jsonb, is_now jsonb);
create function see() returns trigger language plpgsql as $$
begin
    insert into seen (clerk_id, was, is_now)
    values (coalesce(new.clerk_id, old.clerk_id),
        case when tg_op <> 'INSERT' then to_jsonb(old) end, case when tg_op <> 'DELETE' then to_jsonb(new) end);
    return null;
end $$;
create trigger see after insert or update or delete on people for each row execute function see();
"""
MAPPED = ("clerk_id", "email", "name", "handle", "changed_at")


def make_random_event(rng: random.Random, version: int) -> Event:
    user = f"user_{rng.randint(1, 5)}{'_deletable' if rng.random() < 0.2 else ''}"
    if user.endswith("deletable") and rng.random() < 0.3:
        return make("user.deleted", user, version)
    email = make_email_fields(f"e{rng.randint(1, 4)}") if rng.random() < 0.7 else {}
    return make("user.updated", user, version, first_name=rng.choice(["Ada", "Grace", None]), **email)


async def apply_in_batches(applier: Applier, events: list[Event], rng: random.Random) -> None:
    while events:
        size = rng.choice([1, 1, 3, 8])
        batch, events = events[:size], events[size:]
        waiting = list(batch)
        for _ in range(20):
            outcomes = await applier.apply(waiting)
            waiting = [e for e, outcome in zip(waiting, outcomes, strict=True) if outcome.outcome == "unavailable"]
            if not waiting:
                break
        await restore_emails(applier.store)


@pytest.mark.parametrize("options", ["", 'on_delete = "soft"\ndeleted_at = "deleted_at"'], ids=["cascade", "soft"])
@pytest.mark.parametrize(
    "required", ["", "alter table people alter plan drop default;"], ids=["upsert", "update first"]
)
async def test_the_entries_are_the_changes_of_the_table(
    open_applier: OpenApplier, db: asyncpg.Connection, options: str, required: str
) -> None:
    """Two processes apply events of few users with few addresses; a trigger of the app shows the changes that happened.

    Each changed row has an entry of the same transaction with the same columns, and each entry has a changed row.
    """
    if required:
        options += "\nlink_by_external_id = true"
    await db.execute(PEOPLE + ";" + WATCH)
    rng = random.Random(f"{options}{required}")
    toml = TOML.format(options=options)
    if required:
        await db.execute(required)
        toml += 'plan = { from = "username", when_null = "free", write = "insert" }\n'
    mapping = parse_mapping(toml)
    await db.execute("insert into people (email, plan) values ($1, 'old')", f"e1.{PII_SENTINEL}@example.com")
    events = [make_random_event(rng, T1 + n) for n in range(120)]
    shuffled = sorted(events, key=lambda _: rng.random())
    first, second = await open_applier(mapping), await open_applier(mapping)
    await asyncio.gather(apply_in_batches(first, events, rng), apply_in_batches(second, shuffled, rng))
    changes = []
    for row in await db.fetch("select xid::text, clerk_id, was, is_now from seen"):
        was, is_now = json.loads(row["was"] or "{}"), json.loads(row["is_now"] or "{}")
        columns = {name for name in MAPPED if was.get(name) != is_now.get(name)}
        if was and is_now and columns - {"changed_at"} and not is_now["deleted_at"]:
            changes.append((row["xid"], row["clerk_id"], sorted(columns)))
    entries = await db.fetch("select xmin::text as xid, type, clerk_id, columns from clerk_sync.changes")
    updates = [
        (row["xid"], row["clerk_id"], sorted(row["columns"]))
        for row in entries
        if row["type"] == "user.updated" and set(row["columns"]) < {*MAPPED}
    ]
    assert len(updates) > 5
    assert sorted(updates) == sorted(changes)
    created = await db.fetch("select clerk_id from clerk_sync.changes where type = 'user.created'")
    inserted = await db.fetch("select distinct clerk_id from seen where was is null and clerk_id is not null")
    assert sorted(row[0] for row in created) == sorted(row[0] for row in inserted)
    deleted = await db.fetch("select clerk_id from clerk_sync.changes where type like 'user.%deleted'")
    gone = await db.fetch("select clerk_id from clerk_sync.identities where deleted_at > first_seen_at")
    assert sorted(row[0] for row in deleted) == sorted(row[0] for row in gone)
