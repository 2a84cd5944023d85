"""Obstacles in the app's schema: the event is parked with the object's name, and the doctor reports it."""

import json
from typing import Any

import asyncpg
import pytest

from sync_service.mapping.toml import parse_mapping
from sync_service.settings import Settings
from sync_service.suggest.overview_reader import read_overview
from sync_service.suggest.rendering import render_suggestion
from sync_service.suggest.rows import read_evidence
from tests.findings import add_lines, apply_fix, run_doctor
from tests.world import T1, T2, World, make_event, make_message_id, run_world

pytestmark = pytest.mark.every_postgres

TOML = """
[users]
table = "members"
clerk_id = "clerk_id"
[users.columns]
first_name = "first_name"
"""
TABLE = "create table members (clerk_id text unique not null, first_name text{more}); "


async def deliver(world: World, event_type: str = "user.created", at: int = T1) -> tuple[int, str, dict[str, Any]]:
    """Return the status, the reason or outcome, and the last failure of an event of user_1."""
    message_id = make_message_id()
    response = await world.deliver(make_event(event_type, "user_1", at), message_id)
    stored = await world.get_event(message_id)
    assert stored
    failures = json.loads(stored["failures"])
    body = response.json()
    return response.status_code, body.get("reason") or body["outcome"], failures[-1] if failures else {}


async def test_a_published_table_without_a_key_is_parked_by_name_and_repaired(
    settings: Settings, db: asyncpg.Connection, database: str
) -> None:
    await db.execute(TABLE.format(more="") + "create publication everything for all tables")
    finding = (await run_doctor(database, TOML)).one("no_replica_identity")
    assert (finding.kind, "everything" in finding.what) == ("wrong", True)
    async with run_world(settings, db, mapping=parse_mapping(TOML)) as world:
        status, reason, failure = await deliver(world)
        assert (status, reason) == (202, "object_not_in_prerequisite_state")
        assert failure["table"] == "members"
        await apply_fix(db, finding)
        assert (await deliver(world))[:2] == (200, "applied")
    assert "no_replica_identity" not in (await run_doctor(database, TOML)).codes()


@pytest.mark.parametrize(("condition", "serves"), [("clerk_id is not null", True), ("first_name is null", False)])
async def test_a_unique_index_that_leaves_out_null_serves(
    settings: Settings, db: asyncpg.Connection, database: str, condition: str, serves: bool
) -> None:
    """Rows without a Clerk ID are not in it, and each other row is."""
    await db.execute("create table members (clerk_id text, first_name text)")
    await db.execute(f"create unique index on members (clerk_id) where {condition}")
    found = await run_doctor(database, TOML)
    assert ("missing_unique_index" not in found.codes()) is serves
    if serves:
        async with run_world(settings, db, mapping=parse_mapping(TOML)) as world:
            assert (await deliver(world))[:2] == (200, "applied")
            assert (await deliver(world, "user.updated", T2))[:2] == (200, "applied")
            assert await db.fetchval("select count(*) from members") == 1


@pytest.mark.parametrize(
    "identity",
    ["add primary key (clerk_id)", "replica identity full", "replica identity using index members_clerk_id_key"],
)
async def test_a_table_with_a_replica_identity_has_no_finding(
    database: str, db: asyncpg.Connection, identity: str
) -> None:
    await db.execute(TABLE.format(more="") + "create publication everything for all tables")
    await db.execute(f"alter table members {identity}")
    assert "no_replica_identity" not in (await run_doctor(database, TOML)).codes()


@pytest.mark.parametrize(
    "default", ["current_setting('app.tenant')::uuid", "coalesce(current_setting('app.tenant'), '')::uuid"]
)
async def test_a_default_that_reads_a_session_setting_is_parked_by_column(
    settings: Settings, db: asyncpg.Connection, database: str, default: str
) -> None:
    await db.execute(TABLE.format(more=f", tenant_id uuid not null default {default}"))
    finding = (await run_doctor(database, TOML)).one("session_default")
    assert (finding.kind, finding.data["column"]) == ("wrong", "tenant_id")
    async with run_world(settings, db, mapping=parse_mapping(TOML)) as world:
        status, reason, failure = await deliver(world)
        assert (status, reason) == (202, "undefined_object")
        assert (failure["table"], failure["column"]) == ("members", "tenant_id")


async def test_a_default_with_a_fallback_has_no_finding(database: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLE.format(more=", tenant_id text default current_setting('app.tenant', true)"))
    assert "session_default" not in (await run_doctor(database, TOML)).codes()


RULES = {
    "insert": "create rule a_rule as on insert to members do instead nothing",
    "insert also": "create rule a_rule as on insert to members do also select 1",
    "update": "create rule a_rule as on update to members do instead nothing",
}


@pytest.mark.parametrize("rule", RULES)
async def test_a_rule_that_refuses_the_row_is_named(
    settings: Settings, db: asyncpg.Connection, database: str, rule: str
) -> None:
    await db.execute(TABLE.format(more=""))
    async with run_world(settings, db, mapping=parse_mapping(TOML)) as world:
        assert (await deliver(world))[:2] == (200, "applied")
        await db.execute(RULES[rule])  # after the table was read
        status, reason, failure = await deliver(world, "user.updated", T2)
        assert (status, reason) == (202, "row_not_written")
        assert (failure["table"], failure["constraint"]) == ("members", "a_rule")
        finding = (await run_doctor(database, TOML)).one("rules")
        assert (finding.kind, "a_rule" in finding.what) == ("wrong", True)


@pytest.mark.parametrize(
    "action", ["nothing", "update members set first_name = null where clerk_id = old.clerk_id"], ids=["keep", "soft"]
)
async def test_a_rule_that_keeps_the_row_of_a_deletion_is_named(
    settings: Settings, db: asyncpg.Connection, action: str
) -> None:
    await db.execute(TABLE.format(more="") + f"create rule keep as on delete to members do instead {action}")
    async with run_world(settings, db, mapping=parse_mapping(TOML)) as world:
        assert (await deliver(world))[:2] == (200, "applied")
        status, reason, failure = await deliver(world, "user.deleted")
        assert (status, reason) == (202, "row_not_written")
        assert (failure["table"], failure["constraint"]) == ("members", "keep")
        await db.execute("drop rule keep on members")
        assert (await deliver(world, "user.deleted"))[:2] == (200, "applied")


async def test_a_row_without_a_partition_is_parked_with_the_table(settings: Settings, db: asyncpg.Connection) -> None:
    await db.execute(
        "create table members (clerk_id text primary key, first_name text) partition by list (clerk_id);"
        "create table members_2 partition of members for values in ('user_2')"
    )
    async with run_world(settings, db, mapping=parse_mapping(TOML)) as world:
        status, reason, failure = await deliver(world)
        assert (status, reason, failure["table"]) == (202, "check_violation", "members")


async def test_a_view_is_refused_by_name(settings: Settings, db: asyncpg.Connection, database: str) -> None:
    await db.execute("create table people (clerk_id text unique, first_name text); create view members as table people")
    assert (await run_doctor(database, TOML)).one("not_a_table").kind == "wrong"
    async with run_world(settings, db, mapping=parse_mapping(TOML)) as world:
        assert (await world.client.get("/readyz")).json()["reason"] == "mapping"


PRISMA = """
create table "User" (id text primary key, "clerkId" text not null unique, email text not null unique, name text,
  "createdAt" timestamp(3) not null default current_timestamp, "updatedAt" timestamp(3) not null);
"""


async def test_the_suggestion_for_a_prisma_table_works(
    settings: Settings, db: asyncpg.Connection, database: str
) -> None:
    """A key and a time that the app's client fills have no default in the database."""
    await db.execute(PRISMA)
    facts = await read_evidence(db, await read_overview(db), "public", "User")
    assert facts
    text = render_suggestion(facts)
    assert 'id = { generate = "cuid" }  # the app\'s key; a guess' in text
    assert 'updatedAt = { generate = "now" }' in text
    assert "createdAt = " not in text
    assert "not_null_unfilled" not in (await run_doctor(database, text)).codes()
    async with run_world(settings, db, mapping=parse_mapping(text)) as world:
        assert (await deliver(world))[:2] == (200, "applied")


async def test_the_fix_for_a_required_time_keeps_not_null(db: asyncpg.Connection, database: str) -> None:
    await db.execute(TABLE.format(more=", updated timestamp not null"))
    found = (await run_doctor(database, TOML)).one("not_null_unfilled")
    assert not (await run_doctor(database, add_lines(TOML, found))).codes("wrong")
    assert await db.fetchval("select attnotnull from pg_attribute where attname = 'updated'")
