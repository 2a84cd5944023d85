"""Columns of every type that an app may have, filled from Clerk's data."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sync_service.mapping.toml import parse_mapping
from tests.conftest import Serve
from tests.processes import run_command
from tests.world import PII_SENTINEL, T0, T1, T2, T3, World, make_email, make_email_fields, make_event, make_message_id

pytestmark = pytest.mark.every_postgres

# A table as Prisma creates it, with two domains, one based on the other.
PRISMA = """
create type "Plan" as enum ('FREE', 'PRO');
create domain short as varchar(12);
create domain shorter_still as short not null default '' check (value <> 'root');
create table "User" (
    "id" uuid primary key default gen_random_uuid(),
    "clerkId" text not null,
    "email" text,
    "firstName" varchar(8),
    "nickName" shorter_still,
    "isBanned" boolean not null default false,
    "signedUpAt" timestamp(3) not null default current_timestamp,
    "lastSeen" timestamptz(0),
    "joined on" date,
    "meta" jsonb,
    "tags" text[],
    "plan" "Plan" not null default 'FREE',
    "logins" integer,
    "score" numeric(6, 2),
    "second""address" text,
    "origin" char(8),
    "Role" text not null default 'USER'
);
create unique index "User_clerkId_key" on "User" ("clerkId");
create unique index "User_email_key" on "User" ("email");
"""
PRISMA_TOML = """
[users]
table = 'public."User"'
clerk_id = "clerkId"

[users.columns]
email = "primary_email"
firstName = "first_name"
nickName = { from = "last_name", when_null = "-" }
isBanned = "banned"
signedUpAt = "created_at"
lastSeen = "last_active_at"
"joined on" = "created_at"
meta = "public_metadata"
tags = "public_metadata.tags"
plan = { from = "public_metadata.plan", when_null = "FREE" }
logins = "public_metadata.logins"
score = "public_metadata.score"
'second"address' = "email_addresses.1.email_address"
origin = { constant = "clerk" }
"""
MAPPING = parse_mapping(PRISMA_TOML)


async def read_row(db: asyncpg.Connection) -> asyncpg.Record:
    row = await db.fetchrow('select * from "User"')
    assert row
    return row


async def park(world: World, body: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Deliver an event that is parked; return its message ID, its reason and the last failure."""
    message_id = make_message_id()
    response = await world.deliver(body, message_id)
    assert response.status_code == 202, response.text
    stored = await world.get_event(message_id)
    assert stored
    return message_id, response.json()["reason"], json.loads(stored["failures"])[-1]


async def test_every_type_is_filled_from_clerk_s_data(serve: Serve, db: asyncpg.Connection) -> None:
    """Quoted names, enums, domains, times in three types, arrays and documents; keys and defaults stay the app's."""
    await db.execute(PRISMA)
    async with serve(mapping=MAPPING) as world:
        metadata = {"plan": "PRO", "tags": ["a", 1, None], "logins": 5.0, "score": 12.345, "deep": [{"x": None}]}
        fields = make_email_fields("a")
        fields["email_addresses"].append(make_email("b"))
        await world.deliver_ok(
            make_event(
                "user.created", "user_1", T1, public_metadata=metadata, last_active_at=T0 + 1499, banned=True, **fields
            )
        )
        row = await read_row(db)
        key = row["id"]
        moment = datetime.fromtimestamp(T0 / 1000, tz=UTC)
        assert dict(row) == {
            "id": key,
            "clerkId": "user_1",
            "email": f"a.{PII_SENTINEL}@example.com",
            "firstName": f"Ada {PII_SENTINEL}"[:8],
            "nickName": f"Example {PII_SENTINEL}"[:12],
            "isBanned": True,
            "signedUpAt": moment.replace(tzinfo=None),
            "lastSeen": datetime.fromtimestamp(T0 / 1000 + 1, tz=UTC),
            "joined on": moment.date(),
            "meta": row["meta"],
            "tags": ["a", "1", None],
            "plan": "PRO",
            "logins": 5,
            "score": row["score"],
            'second"address': f"b.{PII_SENTINEL}@example.com",
            "origin": "clerk   ",
            "Role": "USER",
        }
        assert json.loads(row["meta"]) == metadata
        assert str(row["score"]) in {"12.35", "12.34"}
        await db.execute("""update "User" set "Role" = 'ADMIN'""")
        await world.deliver_ok(
            make_event("user.updated", "user_1", T2, last_name=None, public_metadata={"tags": "one"})
        )
        row = await read_row(db)
        assert (row["id"], row["Role"], row["plan"], row["logins"], row["meta"]) == (
            *(key, "ADMIN", "FREE", None, '{"tags": "one"}'),
        )
        assert (row["tags"], row["nickName"], row['second"address'], row["lastSeen"]) == (["one"], "-", None, None)
        await world.deliver_ok(make_event("user.deleted", "user_1"))
        assert await db.fetchval('select count(*) from "User"') == 0
        await world.check_invariants()


@pytest.mark.parametrize(
    ("metadata", "reason", "column"),
    [
        ({"plan": "MAXX"}, "invalid_text_representation", "plan"),
        ({"logins": "many"}, "invalid_text_representation", "logins"),
        ({"logins": 5.5}, "invalid_text_representation", "logins"),
        ({"logins": 2**40}, "numeric_value_out_of_range", "logins"),
        ({"score": 1e9}, "numeric_value_out_of_range", "score"),
    ],
)
async def test_a_value_that_a_type_refuses_is_parked_with_its_column(
    serve: Serve, db: asyncpg.Connection, metadata: dict[str, Any], reason: str, column: str
) -> None:
    """PostgreSQL reports the class but not the column; the failure has both. Other users are not delayed."""
    await db.execute(PRISMA)
    async with serve(mapping=MAPPING) as world:
        _, why, failure = await park(world, make_event("user.created", "user_1", T1, public_metadata=metadata))
        assert (why, failure["table"], failure["column"]) == (reason, "User", column)
        assert await world.deliver_ok(make_event("user.created", "user_2", T1)) == "applied"
        world.accepted.clear()


async def test_a_domain_s_check_names_its_column(serve: Serve, db: asyncpg.Connection) -> None:
    await db.execute(PRISMA)
    async with serve(mapping=MAPPING) as world:
        _, why, failure = await park(world, make_event("user.created", "user_1", T1, last_name="root"))
        assert (why, failure["column"]) == ("check_violation", "nickName")


async def test_a_replay_accepts_an_enum_label_added_later(
    serve: Serve, db: asyncpg.Connection, database: str, tmp_path: Path
) -> None:
    await db.execute(PRISMA)
    (tmp_path / "sync.toml").write_text(PRISMA_TOML)
    async with serve(mapping=MAPPING) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1))
        body = make_event("user.updated", "user_1", T2, public_metadata={"plan": "MAXX"})
        message_id, _, _ = await park(world, body)
    await db.execute("""alter type "Plan" add value 'MAXX'""")
    assert run_command("events", "replay", message_id, cwd=tmp_path, DATABASE_URL=database).returncode == 0
    assert (await read_row(db))["plan"] == "MAXX"
    assert (await db.fetchval("select status from clerk_sync.events where id = $1", message_id)) == "applied"


async def test_an_email_or_clerk_id_is_never_truncated(serve: Serve, db: asyncpg.Connection) -> None:
    """A truncated email or Clerk ID could belong to another user."""
    await db.execute("create table people (clerk_id varchar(40) unique, email varchar(20), first_name varchar(5))")
    mapping = parse_mapping("""
        [users]
        table = "people"
        clerk_id = "clerk_id"
        [users.columns]
        email = "primary_email"
        first_name = "first_name"
    """)
    async with serve(mapping=mapping) as world:
        _, why, failure = await park(world, make_event("user.created", "user_1", T1, **make_email_fields("a")))
        assert (why, failure["column"]) == ("string_data_right_truncation", "email")
        stem = "user_" + "x" * 35
        assert await world.deliver_ok(make_event("user.created", stem, T1)) == "applied"
        _, why, failure = await park(world, make_event("user.created", f"{stem}yz", T1))
        assert (why, failure["column"]) == ("string_data_right_truncation", "clerk_id")
        assert await world.deliver_ok(make_event("user.deleted", f"{stem}ab")) == "applied"
        assert await db.fetchval("select count(*) from people where clerk_id = $1", stem) == 1
        world.accepted.clear()


async def test_emails_in_a_citext_column_are_compared_without_case(serve: Serve, db: asyncpg.Connection) -> None:
    """A conflict of emails that differ only in case is resolved like any other."""
    if not await db.fetchval("select count(*) from pg_available_extensions where name = 'citext'"):
        pytest.skip("this PostgreSQL comes without the extension citext")
    await db.execute(
        "create extension citext; create table users (id citext primary key, email citext unique not null)"
    )
    mapping = parse_mapping("""
        [users]
        clerk_id = "id"
        [users.columns]
        email = { from = "primary_email", when_null = "{clerk_id}@users.invalid" }
    """)
    async with serve(mapping=mapping) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("E")))
        assert await world.deliver_ok(make_event("user.created", "user_2", T2, **make_email_fields("e"))) == "applied"
        first, second = await world.get_user("user_1"), await world.get_user("user_2")
        assert first
        assert second
        assert (first["email"], second["email"]) == ("user_1@users.invalid", f"e.{PII_SENTINEL}@example.com")
        await world.check_invariants()
        await world.deliver_ok(make_event("user.deleted", "user_2"))
        assert await world.get_user("user_2") is None


async def test_a_private_field_that_is_mapped_by_name_survives_parking(
    serve: Serve, db: asyncpg.Connection, database: str, tmp_path: Path
) -> None:
    """The inbox keeps the private fields that the mapping names, and no others (L9)."""
    toml = """
        [users]
        clerk_id = "id"
        [users.columns]
        credit = "private_metadata.credit"
        document = "$"
    """
    (tmp_path / "sync.toml").write_text(toml)
    await db.execute(
        "create table users (id text primary key, credit integer constraint low check (credit < 5), document jsonb)"
    )
    async with serve(mapping=parse_mapping(toml)) as world:
        body = make_event("user.created", "user_1", T1, private_metadata={"credit": 7}, unsafe_metadata={"x": 1})
        message_id, why, failure = await park(world, body)
        assert (why, failure["constraint"]) == ("check_violation", "low")
    payload = json.loads(await db.fetchval("select payload from clerk_sync.events"))
    assert payload["private_metadata"] == {"credit": 7}
    assert "unsafe_metadata" not in payload
    await db.execute("alter table users drop constraint low")
    assert run_command("events", "replay", message_id, cwd=tmp_path, DATABASE_URL=database).returncode == 0
    row = await db.fetchrow("select credit, document from users")
    assert row
    assert row["credit"] == 7
    assert json.loads(row["document"]).keys().isdisjoint({"private_metadata", "unsafe_metadata"})


async def test_unmapped_private_metadata_are_not_in_the_inbox(serve: Serve, db: asyncpg.Connection) -> None:
    """The payload of a parked event has neither private nor unsafe metadata (E7)."""
    await db.execute("create table users (id text primary key, document jsonb check (document is null))")
    mapping = parse_mapping('[users]\nclerk_id = "id"\ncolumns = { document = "$" }')
    async with serve(mapping=mapping) as world:
        await park(world, make_event("user.created", "user_1", private_metadata={"x": 1}, unsafe_metadata={"y": 1}))
    payload = json.loads(await db.fetchval("select payload from clerk_sync.events"))
    assert payload.keys().isdisjoint({"private_metadata", "unsafe_metadata"})


@pytest.mark.parametrize(
    ("column", "when_null", "shown"),
    [
        ("boolean not null", "false", False),
        ("integer not null", "-1", -1),
        ("date not null", '"1970-01-01"', date(1970, 1, 1)),
        ("mood not null", '"calm"', "calm"),
        ("jsonb not null", '"none"', '"none"'),
        ("text not null", '"nobody {clerk_id}"', "nobody user_1"),
        ("text[] not null", '"none"', []),
    ],
)
async def test_an_anonymised_row_has_its_placeholders(
    serve: Serve, db: asyncpg.Connection, column: str, when_null: str, shown: object
) -> None:
    """NOT NULL columns of every type get their `when_null` value (K1)."""
    await db.execute(
        f"create type mood as enum ('calm', 'wild'); create table users (id text primary key, it {column})"
    )
    mapping = parse_mapping(f"""
        [users]
        clerk_id = "id"
        on_delete = "anonymize"
        [users.columns]
        it = {{ from = "public_metadata.it", when_null = {when_null} }}
    """)
    value = {"boolean": True, "integer": 7, "date": "2000-01-01", "mood": "wild"}.get(column.split(maxsplit=1)[0], "x")
    async with serve(mapping=mapping) as world:
        assert (
            await world.deliver_ok(make_event("user.created", "user_1", T1, public_metadata={"it": value})) == "applied"
        )
        assert await world.deliver_ok(make_event("user.deleted", "user_1", T3)) == "applied"
        assert await db.fetchval("select it from users") == shown
