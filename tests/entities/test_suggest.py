"""`mapping suggest` for sessions, organizations and memberships: it works unedited, or it is left out."""

from dataclasses import replace

import asyncpg
import pytest

from sync_service.mapping.toml import parse_mapping
from sync_service.settings import Settings
from sync_service.suggest.overview_reader import read_overview
from sync_service.suggest.related import read_related
from sync_service.suggest.rendering import render_suggestion
from sync_service.suggest.rows import read_evidence
from tests.entities.conftest import (
    SCHEMA,
    make_membership_event,
    make_organization_event,
    make_session_event,
    read_rows,
)
from tests.findings import run_doctor
from tests.world import T1, T2, run_world


async def suggest(db: asyncpg.Connection, users: str) -> str:
    overview = await read_overview(db)
    facts = await read_evidence(db, overview, "public", users)
    assert facts
    return render_suggestion(facts, [], await read_related(db, overview, ("public", users)))


async def test_a_suggestion_works_unedited(settings: Settings, database: str, db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA)
    await db.execute("alter table team_members alter id drop default, alter id type text")
    text = await suggest(db, "people")
    mapping = parse_mapping(text)
    assert [one.entity for one in mapping.all] == ["user", "organization", "session", "membership"]
    assert not (await run_doctor(database, text)).codes("wrong")
    async with run_world(replace(settings, mapping=mapping), db) as world:
        await world.deliver_ok(make_organization_event("organization.created", "org_1"))
        assert await world.deliver_ok(make_session_event("session.created", "sess_1", "user_1", T1)) == "applied"
        assert await world.deliver_ok(make_session_event("session.ended", "sess_1", "user_1", T2)) == "applied"
        assert await world.deliver_ok(make_membership_event("created", "orgmem_1", "org_1", "user_1")) == "applied"
    [session] = await read_rows(db, "user_sessions")
    assert (session["is_active"], session["city"], session["ended_at"].timestamp() * 1000) == (
        *(False, "PII_SENTINEL City", T2),
    )
    [team] = await read_rows(db, "teams")
    assert (team["name"], team["slug"], team["tier"]) == ("Acme", "acme-org_1", "free")
    [member] = await read_rows(db, "team_members")
    assert (member["team_id"], member["role"]) == (team["id"], "org:admin")
    assert member["id"]


@pytest.mark.parametrize(
    "table",
    [
        # NextAuth, express-session, Better Auth, and a table of the app's own visits.
        'create table sessions (id text primary key, "sessionToken" text unique, "userId" integer references people)',
        "create table session (sid varchar primary key, sess json not null, expire timestamp not null)",
        "create table session (id text primary key, token text unique, user_id int references people, clerk_id text)",
        "create table sessions (id serial primary key, clerk_session_id text unique, token text)",
        "create table carts (id serial primary key, clerk_session_id text unique)",
        "create table billing_accounts (id serial primary key, clerk_org_id text unique, stripe_customer_id text)",
        "create table org_settings (clerk_organization_id text primary key, theme text)",
        "create table membership_invoices (id serial primary key, clerk_membership_id text unique)",
        "create table game_sessions (id serial primary key, session_id text unique, user_id integer references people)",
        "create table organizations (id uuid primary key, slug text unique, name text)",
        "create table org_members (user_id int references people, org_id uuid, role text, unique (user_id, org_id))",
    ],
)
async def test_tables_of_others_are_left_out(db: asyncpg.Connection, table: str) -> None:
    await db.execute("create table people (id serial primary key, clerk_id text unique not null, email text)")
    await db.execute(table)
    assert [one.entity for one in parse_mapping(await suggest(db, "people")).all] == ["user"]


async def test_two_possible_tables_are_left_out(db: asyncpg.Connection) -> None:
    await db.execute("create table people (id serial primary key, clerk_id text unique not null, email text)")
    for name in ("teams", "companies"):
        await db.execute(f"create table {name} (id serial primary key, clerk_org_id text unique, name text)")
    assert "[organizations]" not in await suggest(db, "people")


async def test_a_value_that_cannot_be_guessed_leaves_a_remark(db: asyncpg.Connection) -> None:
    await db.execute("create table people (id serial primary key, clerk_id text unique not null, email text)")
    await db.execute("create table teams (id serial primary key, clerk_org_id text unique, region circle not null)")
    text = await suggest(db, "people")
    assert [one.entity for one in parse_mapping(text).all] == ["user"]
    assert "# public.teams may be the table of [organizations]" in text
