"""An application with tables for users, sessions, organizations and memberships, each with a key of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from sync_service.mapping.toml import parse_mapping
from sync_service.postgres.pool import open_database
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from sync_service.sync.maintenance import MaintenanceWorker
from tests.world import INSTANCE, T0, World, make_user_data, run_world

SCHEMA = """
create table people (
    id serial primary key,
    clerk_id varchar(255) unique not null,
    first_name varchar(100)
);
create table user_sessions (
    id serial primary key,
    user_id integer not null references people (id) on delete cascade,
    clerk_id varchar(255) not null,
    session_id varchar(255) not null unique,
    ip_address inet,
    device_type varchar(50),
    browser varchar(100),
    country varchar(2),
    city varchar(100),
    impersonator text,
    created_at timestamptz not null default now(),
    last_active_at timestamptz not null default now(),
    expires_at timestamptz,
    ended_at timestamptz,
    is_active boolean not null default true,
    user_agent text,
    note text,
    check (last_active_at >= created_at),
    check (expires_at is null or expires_at > created_at),
    check (ended_at is null or (ended_at >= created_at and ended_at >= last_active_at))
);
create table teams (
    id uuid primary key default gen_random_uuid(),
    clerk_org_id text unique not null,
    name text not null,
    slug text,
    tier text not null default 'free'
);
create table team_members (
    id bigserial primary key,
    clerk_membership_id text unique not null,
    team_id uuid not null references teams (id) on delete cascade,
    person_id integer not null references people (id) on delete cascade,
    role text not null,
    unique (team_id, person_id)
);
create table documents (id serial primary key, team_id uuid references teams (id) on delete cascade);
"""

TOML = """
[users]
table = "people"
clerk_id = "clerk_id"
[users.columns]
first_name = "first_name"

[sessions]
table = "user_sessions"
session_id = "session_id"
keep = "90d"
[sessions.columns]
user_id = "user.key"
clerk_id = "user_id"
ip_address = "latest_activity.ip_address"
device_type = "latest_activity.device_type"
browser = "latest_activity.browser_name"
country = "latest_activity.country"
city = "latest_activity.city"
impersonator = "actor.sub"
created_at = "created_at"
last_active_at = "last_active_at"
expires_at = "expire_at"
ended_at = "ended_at"
user_agent = { from = "event_attributes.http_request.user_agent", write = "insert" }
is_active = { from = "status", equals = "active" }

[organizations]
table = "teams"
organization_id = "clerk_org_id"
[organizations.columns]
name = "name"
slug = "slug"

[memberships]
table = "team_members"
membership_id = "clerk_membership_id"
[memberships.columns]
team_id = "organization.key"
person_id = "user.key"
role = "role"

[changes]
record = true
"""


def make_body(event_type: str, data: Any) -> dict[str, Any]:
    """Return the body of an event."""
    return {"type": event_type, "object": "event", "timestamp": T0, "instance_id": INSTANCE, "data": data}


def make_session(session_id: str, user_id: str, updated_at: int, status: str = "active", **data: Any) -> dict[str, Any]:
    """Return a session with its latest activity, and without its user."""
    return {
        "object": "session",
        "id": session_id,
        "user_id": user_id,
        "client_id": "client_1",
        "status": status,
        "actor": None,
        "created_at": T0,
        "updated_at": updated_at,
        "last_active_at": T0,
        "expire_at": T0 + 604_800_000,
        "abandon_at": T0 + 2_592_000_000,
        "latest_activity": {
            "device_type": "desktop",
            "is_mobile": False,
            "browser_name": "Firefox",
            "browser_version": "140.0",
            "ip_address": "192.0.2.7",
            "city": "PII_SENTINEL City",
            "country": "DE",
        },
        **data,
    }


def make_session_event(event_type: str, session_id: str, user_id: str, updated_at: int, **data: Any) -> dict[str, Any]:
    """Return the body of an event of a session that contains its user, as Clerk sends it."""
    status = "active" if event_type == "session.created" else event_type.rpartition(".")[2]
    user = data.pop("user", make_user_data(user_id, updated_at))
    content = make_session(session_id, user_id, updated_at, data.pop("status", status), user=user, **data)
    request = {"client_ip": "192.0.2.7", "user_agent": "PII_SENTINEL Browser"}
    return make_body(event_type, content) | {"event_attributes": {"http_request": request}}


def make_organization(organization_id: str, updated_at: int, **data: Any) -> dict[str, Any]:
    """Return an organization."""
    return {
        "object": "organization",
        "id": organization_id,
        "name": "Acme",
        "slug": f"acme-{organization_id}",
        "public_metadata": {},
        "private_metadata": {"k": "SECRET_SENTINEL"},
        "created_at": T0,
        "updated_at": updated_at,
        **data,
    }


def make_organization_event(event_type: str, organization_id: str, updated_at: int = T0, **data: Any) -> dict[str, Any]:
    """Return the body of an event of an organization."""
    if event_type.endswith(".deleted"):
        return make_body(event_type, {"deleted": True, "id": organization_id, "object": "organization"})
    return make_body(event_type, make_organization(organization_id, updated_at, **data))


def make_membership_event(
    event_type: str, membership_id: str, organization_id: str, user_id: str, updated_at: int = T0, **data: Any
) -> dict[str, Any]:
    """Return the body of an event of a membership, which contains its organization also when it is deleted."""
    content = {
        "object": "organization_membership",
        "id": membership_id,
        "role": "org:admin",
        "organization": make_organization(organization_id, T0),
        "public_user_data": {"user_id": user_id, "identifier": "PII_SENTINEL@example.com"},
        "public_metadata": {},
        "created_at": T0,
        "updated_at": updated_at,
        **data,
    }
    return make_body(f"organizationMembership.{event_type}", content)


@pytest.fixture
async def world(settings: Settings, db: asyncpg.Connection) -> AsyncIterator[World]:
    """The service with a table for each entity."""
    await db.execute(SCHEMA)
    async with run_world(replace(settings, mapping=parse_mapping(TOML)), db) as world:
        yield world


async def read_rows(db: asyncpg.Connection, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table, the oldest first."""
    return [dict(row) for row in await db.fetch(f"select * from {table} order by id")]


async def retry_all(db: asyncpg.Connection, settings: Settings, world: World) -> None:
    """Retry failed events until no attempt changes one of them."""
    assert settings.database
    async with contextlib.aclosing(await open_database(settings.database)) as pool:
        applier = Applier(Store(pool, world.mapping), source="replay", max_attempts=1000)
        worker = MaintenanceWorker(applier, timedelta(days=30), asyncio.Event())
        before = None
        while before != (before := await db.fetchval("select count(*) from clerk_sync.events where status = 'failed'")):
            await db.execute("update clerk_sync.events set next_attempt_at = now() where status = 'failed'")
            await worker.run_once()
