"""The references: a route without any work, one with one SELECT, and the usual handler.

uvicorn runs them exactly as it runs the service; the DSN comes from the environment.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from svix.webhooks import Webhook

from sync_service.process import die_with_parent
from tests.world import SECRET

# The tables of one usual handler: `usual` in this file, `node` in usual_handler.mjs.
TABLES = """
create table if not exists {name}_events (
    id text primary key, type text, payload jsonb, received_at timestamptz default now()
);
create table if not exists {name}_users (like public.users including all);
"""
HANDLERS = ("usual", "node")


# The service's own columns, so that both write the same row.
_COLUMNS = (
    "id, email, email_verified, phone, username, first_name, last_name, image_url, external_id, banned, locked,"
    " public_metadata, last_sign_in_at, created_at, updated_at"
)
_NAMES = _COLUMNS.split(", ")
UPSERT = (
    f"insert into usual_users ({_COLUMNS}) values ({', '.join(f'${n + 1}' for n in range(len(_NAMES)))})"
    f" on conflict (id) do update set {', '.join(f'{name} = excluded.{name}' for name in _NAMES[1:])}"
)


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[dict[str, object]]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=0, max_size=10) as pool:
        for name in HANDLERS:
            await pool.execute(TABLES.format(name=name))
        yield {"pool": pool}


async def _bare(request: Request) -> Response:
    await request.body()
    return Response(status_code=204)


async def _usual(request: Request) -> Response:
    body = await request.body()
    Webhook(SECRET).verify(body, dict(request.headers))
    event = json.loads(body)
    async with request.state.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "insert into usual_events (id, type, payload) values ($1, $2, $3) on conflict do nothing",
            request.headers["svix-id"],
            event["type"],
            body.decode(),
        )
        if event["type"] == "user.deleted":
            await connection.execute("delete from usual_users where id = $1", event["data"]["id"])
        else:
            await connection.execute(UPSERT, *row_of(event["data"]))
    return Response(status_code=204)


def row_of(user: dict[str, Any]) -> list[object]:
    """Return the values of the columns of `UPSERT`."""
    email = next((one for one in user["email_addresses"] if one["id"] == user["primary_email_address_id"]), None)
    phone = next((one for one in user["phone_numbers"] if one["id"] == user["primary_phone_number_id"]), None)
    return [
        user["id"],
        email and email["email_address"],
        bool(email and email["verification"] and email["verification"]["status"] == "verified"),
        phone and phone["phone_number"],
        *(user[name] for name in ("username", "first_name", "last_name", "image_url", "external_id")),
        user["banned"],
        user["locked"],
        json.dumps(user["public_metadata"]),
        *(user[name] and datetime.fromtimestamp(user[name] / 1000, tz=UTC) for name in _NAMES[-3:]),
    ]


async def _row(request: Request) -> Response:
    async with request.state.pool.acquire() as connection:
        row = await connection.fetchval(
            "select to_jsonb(u)::text from public.users u where id = $1", request.path_params["id"]
        )
    return Response(row, media_type="application/json")


async def _rows(request: Request) -> Response:
    wanted = json.loads(await request.body())["clerk_ids"]
    async with request.state.pool.acquire() as connection:
        rows = await connection.fetch("select id as clerk_id, id from public.users where id = any($1)", wanted)
    return Response(json.dumps({"users": dict(rows)}), media_type="application/json")


def app() -> Starlette:
    """Return the app with all references."""
    die_with_parent()
    routes = [
        Route("/bare", _bare, methods=["POST"]),
        Route("/usual", _usual, methods=["POST"]),
        Route("/row/{id}", _row),
        Route("/rows", _rows, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=_lifespan)
