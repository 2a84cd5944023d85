"""What the service is measured against: routes that do nothing or one SELECT, and the handler that everybody writes.

Run by uvicorn exactly as the service is; the address of the database comes from the environment.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from svix.webhooks import Webhook

from sync_service.process import die_with_parent
from tests.world import SECRET

_TABLES = """
create table if not exists usual_events (
    id text primary key, type text, payload jsonb, received_at timestamptz default now()
);
create table if not exists usual_users (
    id text primary key, email text, first_name text, last_name text, image_url text, updated_at bigint
);
"""


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[dict[str, object]]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=0, max_size=10) as pool:
        await pool.execute(_TABLES)
        yield {"pool": pool}


async def _bare(request: Request) -> Response:
    await request.body()
    return Response(status_code=204)


async def _usual(request: Request) -> Response:
    body = await request.body()
    Webhook(SECRET).verify(body, dict(request.headers))
    event = json.loads(body)
    user = event["data"]
    addresses = user["email_addresses"]
    async with request.state.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "insert into usual_events (id, type, payload) values ($1, $2, $3) on conflict do nothing",
            request.headers["svix-id"],
            event["type"],
            body.decode(),
        )
        await connection.execute(
            "insert into usual_users (id, email, first_name, last_name, image_url, updated_at)"
            " values ($1, $2, $3, $4, $5, $6) on conflict (id) do update set email = excluded.email,"
            " first_name = excluded.first_name, last_name = excluded.last_name, image_url = excluded.image_url,"
            " updated_at = excluded.updated_at",
            user["id"],
            addresses[0]["email_address"] if addresses else None,
            user["first_name"],
            user["last_name"],
            user["image_url"],
            user["updated_at"],
        )
    return Response(status_code=204)


async def _row(request: Request) -> Response:
    async with request.state.pool.acquire() as connection:
        row = await connection.fetchval(
            "select to_jsonb(u)::text from public.users u where id = $1", request.path_params["id"]
        )
    return Response(row, media_type="application/json")


def app() -> Starlette:
    """Return the app with all of them."""
    die_with_parent()
    routes = [
        Route("/bare", _bare, methods=["POST"]),
        Route("/usual", _usual, methods=["POST"]),
        Route("/row/{id}", _row),
    ]
    return Starlette(routes=routes, lifespan=_lifespan)
