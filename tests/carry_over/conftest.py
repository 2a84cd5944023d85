"""An onboarding app: visitors fill a profile, interact and see results before they sign up."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest

from sync_service.mapping.toml import parse_mapping
from tests.clerk_stub import API_TOKEN, ClerkStub, make_bearer_header, make_session_token
from tests.conftest import Serve
from tests.sync_requests import build_settings
from tests.world import INSTANCE, World

# In values of visitors. It must stay in the tables of the app.
MARKER = "VISITOR_SENTINEL"

SCHEMA = """
create schema app;
create table app.users (
    id {key},
    clerk_id varchar(255) unique not null,
    first_name text,
    profiles integer not null default 0
);
create type app.mood as enum ('calm', 'glad');
create table app.user_profiles (
    id serial primary key,
    user_id {reference} not null unique references app.users (id) on delete cascade,
    clerk_id varchar(255) not null,
    first_name varchar(40),
    age integer check (age between 13 and 120),
    rating numeric(4, 2) default 3,
    tags text[],
    mood app.mood,
    extra jsonb,
    born date,
    seen_at timestamptz,
    subscribed boolean not null default false,
    label text generated always as ('p' || age) stored,
    created_at timestamptz not null default now()
);
create table app.interactions (
    user_id {reference} not null references app.users (id) on delete cascade,
    question text not null,
    answer text not null,
    primary key (user_id, question)
);
create table app.notes (clerk_id varchar(255) not null, text text not null);
"""

SYNC_TOML = """
[users]
table = "app.users"
clerk_id = "clerk_id"
[users.columns]
first_name = "first_name"
{generated}

[carry_over.user_profiles]
table = "app.user_profiles"
user = "user_id"
clerk_id = "clerk_id"
columns = ["first_name", "age", "rating", "tags", "mood", "extra", "born", "seen_at", "subscribed"]
most = 1
[carry_over.interactions]
table = "app.interactions"
user = "user_id"
columns = ["question", "answer"]
[carry_over.notes]
table = "app.notes"
clerk_id = "clerk_id"
columns = ["text"]
"""

TABLES = ("app.user_profiles", "app.interactions", "app.notes")

PROFILE = {"first_name": f"Ada {MARKER}", "age": 36, "rating": 4.5}
ANSWERS = [{"question": "q1", "answer": MARKER}, {"question": "q2", "answer": MARKER}]


async def create_app(db: asyncpg.Connection, key: str = "serial primary key", reference: str = "integer") -> None:
    """Create the tables of the app, with a key of this type."""
    await db.execute(SCHEMA.format(key=key, reference=reference))


def make_settings(clerk: ClerkStub, **changes: Any) -> dict[str, Any]:
    """Return the settings of a service for the app."""
    mapping = parse_mapping(SYNC_TOML.format(generated=""))
    return build_settings(clerk, mapping=mapping, clerk_instance_id=INSTANCE, **changes)


@pytest.fixture
async def world(serve: Serve, clerk: ClerkStub, db: asyncpg.Connection) -> AsyncIterator[World]:
    """The running service for the app, whose user is `user_1`; no user has a row yet."""
    await create_app(db)
    clerk.add_user("user_1")
    clerk.add_user("user_2")
    async with serve(**make_settings(clerk)) as running:
        yield running


def make_body(visit: str = "visit-1", **rows: Any) -> dict[str, Any]:
    """Return a body with these rows; without any, those of a usual visitor."""
    return {"carry_over": {"id": visit, "rows": rows or {"user_profiles": [PROFILE], "interactions": ANSWERS}}}


async def carry(world: World, body: Any, user_id: str = "user_1", token: str | None = None) -> httpx2.Response:
    """Post a body to /sync with a session token of the user, or with another token."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = make_bearer_header(token if token is not None else make_session_token(user_id))
    return await world.client.post("/sync", headers=headers, content=content)


async def carry_as_backend(world: World, body: Any, user_id: str = "user_1") -> httpx2.Response:
    """Post a body to /sync with the service token, for the user."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = make_bearer_header(API_TOKEN) | {"X-Clerk-User-Id": user_id}
    return await world.client.post("/sync", headers=headers, content=content)


def read_result(response: httpx2.Response) -> tuple[str, str | None]:
    """Return status and reason of the carry-over in a response of 200."""
    assert response.status_code == 200, response.text
    result = response.json()["carry_over"]
    assert result.keys() == {"status", "reason"}
    return result["status"], result["reason"]


async def count_rows(db: asyncpg.Connection) -> list[int]:
    """Return the number of rows in each table of the app, and of the records."""
    return [await db.fetchval(f"select count(*) from {table}") for table in (*TABLES, "clerk_sync.carry_overs")]
