"""The surroundings of the service: Clerk's events, a sender that signs as Svix does, the app's table."""

import asyncio
import contextlib
import itertools
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx2
import uvicorn
from starlette.types import ASGIApp
from svix.webhooks import Webhook

from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table import TableMapping
from sync_service.postgres.sql import quote_ident
from sync_service.settings import Settings
from sync_service.web.app import create_app
from sync_service.web.limits import TimeLimits
from sync_service.web.protocol import LimitedProtocol

PII_SENTINEL = "PII_SENTINEL"
SECRET = "whsec_c2VudGluZWwvU0VDUkVUU0VOVElORUwvMDEyMzQ1"
OLDER_SECRET = "whsec_b2xkZXIvU0VDUkVUU0VOVElORUwvMDEyMzQ1Njc4"
SECRETS = (SECRET.removeprefix("whsec_"), OLDER_SECRET.removeprefix("whsec_"), "SECRET_SENTINEL")
INSTANCE = "ins_2testtesttesttesttesttestte"

# On a busy machine a response may take longer than the service's own limits allow. A test of a limit sets it.
PATIENT_LIMITS = TimeLimits(body=60, apply=60, response=60)

# Three instants in milliseconds, a day ago and a second apart.
T0 = (int(time.time()) - 86_400) * 1000
T1, T2, T3 = T0 + 1000, T0 + 2000, T0 + 3000

_ids = itertools.count(1)


def make_email(local: str, *, verified: bool = True, address_id: str | None = None) -> dict[str, Any]:
    """Return an entry of `email_addresses`; the email contains the sentinel."""
    verification = {"status": "verified" if verified else "unverified", "strategy": "email_code"}
    return {
        "id": address_id or f"idn_{local}",
        "object": "email_address",
        "email_address": f"{local}.{PII_SENTINEL}@example.com",
        "verification": verification,
        "linked_to": [],
    }


def make_email_fields(local: str, **options: Any) -> dict[str, Any]:
    """Return the fields of a user with this primary email."""
    email = make_email(local, **options)
    return {"email_addresses": [email], "primary_email_address_id": email["id"]}


def make_user_data(user_id: str, updated_at: int, **data: Any) -> dict[str, Any]:
    """Return Clerk's user with the minimum of fields; the names contain the sentinel."""
    return {
        "id": user_id,
        "object": "user",
        "created_at": T0,
        "updated_at": updated_at,
        "first_name": f"Ada {PII_SENTINEL}",
        "last_name": f"Example {PII_SENTINEL}",
        "email_addresses": [],
        "primary_email_address_id": None,
        **data,
    }


def make_event(event_type: str, user_id: str, updated_at: int = T1, **data: Any) -> dict[str, Any]:
    """Return the body of an event."""
    content = (
        {"id": user_id, "deleted": True, "object": "user"} | data
        if event_type == "user.deleted"
        else make_user_data(user_id, updated_at, **data)
    )
    return {
        "type": event_type,
        "object": "event",
        "timestamp": updated_at,
        "instance_id": INSTANCE,
        "data": content,
    }


def encode_body(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()


def sign_event(body: bytes, message_id: str, *, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """Return the headers that Svix sends with this body."""
    seconds = int(time.time() if at is None else at)
    signature = Webhook(secret).sign(message_id, datetime.fromtimestamp(seconds, tz=UTC), body.decode())
    return {"svix-id": message_id, "svix-timestamp": str(seconds), "svix-signature": signature}


def make_message_id() -> str:
    return f"msg_{next(_ids):012}"


async def wait_until(condition: Callable[[], Awaitable[Any] | Any], seconds: float = 60) -> None:
    """Wait until the condition is true. Raises `AssertionError` after so many seconds.

    The longer it takes, the longer the pauses: a check often asks the service or the database.
    """
    start = time.monotonic()
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        waited = time.monotonic() - start
        assert waited < seconds, "the condition did not become true in time"
        await asyncio.sleep(min(max(0.005, waited / 10), 0.1))


async def count_lock_waiters(connection: asyncpg.Connection) -> int:
    """Return the number of sessions of this database that wait for a lock.

    Call it outside a transaction: within one, PostgreSQL returns the statistics of the first look again.
    """
    sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    return int(await connection.fetchval(sql))


@dataclass
class World:
    """The service as its callers see it, and the database; `mapping` names the app's table."""

    client: httpx2.AsyncClient
    db: asyncpg.Connection
    mapping: TableMapping = DEFAULT
    accepted: list[tuple[str, bytes]] = field(default_factory=list)

    async def post(self, body: bytes, headers: dict[str, str], path: str = "/webhooks/clerk") -> httpx2.Response:
        """Post the body with these headers; keep an accepted message for `check_invariants`."""
        response = await self.client.post(path, content=body, headers={"content-type": "application/json"} | headers)
        assert PII_SENTINEL not in response.text  # I5
        if response.is_success:
            self.accepted.append((headers.get("svix-id") or headers["webhook-id"], body))
        return response

    async def deliver(self, body: Any, message_id: str | None = None, **signing: Any) -> httpx2.Response:
        """Sign and post an event as Svix does."""
        content = encode_body(body)
        message_id = message_id or make_message_id()
        return await self.post(content, sign_event(content, message_id, **signing))

    async def deliver_ok(self, body: Any, message_id: str | None = None) -> str:
        """Deliver an event, check that the response is 2xx and return its outcome."""
        response = await self.deliver(body, message_id)
        assert response.is_success, response.text
        return str(response.json()["outcome"])

    async def get_user(self, user_id: str) -> dict[str, Any] | None:
        """Return the user's row, or None."""
        row = await self.db.fetchval(
            f"select to_jsonb(u) from {self.table} u where {quote_ident(self.mapping.id_column)} = $1", user_id
        )
        return json.loads(row) if row else None

    @property
    def table(self) -> str:
        """The app's table, quote_ident for SQL."""
        return f"{quote_ident(self.mapping.schema)}.{quote_ident(self.mapping.table)}"

    async def get_event(self, message_id: str) -> dict[str, Any] | None:
        """Return the event's row in the inbox, or None."""
        row = await self.db.fetchrow("select * from clerk_sync.events where id = $1", message_id)
        return dict(row) if row else None

    async def get_users(self) -> list[Any]:
        """Return all rows of the app's table."""
        rows = await self.db.fetch(f"select * from {self.table} order by {quote_ident(self.mapping.id_column)}")
        return [tuple(row) for row in rows]

    async def check_invariants(self) -> None:
        """Check that accepted events are stored, deleted users have no active row, and replays change no row.

        These are the invariants I2, I3 and I6. A unique index ensures I1, `post` checks I5, the fixture `output` checks
        I4.
        """
        for message_id, _ in self.accepted:
            stored = await self.get_event(message_id)
            assert stored, f"{message_id} was accepted and not stored"
            assert stored["status"] in {"applied", "stale", "ignored"} or stored["next_attempt_at"]
        if self.mapping.on_delete != "anonymize":
            active = "true" if self.mapping.deleted_at is None else f"u.{quote_ident(self.mapping.deleted_at)} is null"
            active_rows_of_deleted_users = (
                f"select count(*) from {self.table} as u"
                f" join clerk_sync.identities as i on u.{quote_ident(self.mapping.id_column)} = i.clerk_id"
                f" where i.deleted_at is not null and {active}"
            )
            assert await self.db.fetchval(active_rows_of_deleted_users) == 0
        before = await self.get_users()
        again = [*self.accepted]
        random.Random(len(again)).shuffle(again)
        for message_id, body in again:
            response = await self.post(body, sign_event(body, message_id))
            assert response.is_success
        assert await self.get_users() == before


@contextlib.asynccontextmanager
async def run_world(
    settings: Settings, db: asyncpg.Connection, *, limits: TimeLimits = PATIENT_LIMITS, **changes: Any
) -> AsyncIterator[World]:
    """Run the service on a free port within the block, with some settings changed."""
    settings = replace(settings, **changes)
    async with (
        run_service(settings, limits) as url,
        httpx2.AsyncClient(base_url=url, timeout=60) as client,
    ):
        yield World(client, db, settings.mapping)


@contextlib.asynccontextmanager
async def run_service(settings: Settings, limits: TimeLimits = PATIENT_LIMITS) -> AsyncIterator[str]:
    """Run the service and yield its URL."""
    async with run_app(create_app(settings, limits)) as url:
        yield url


class FastShutdownServer(uvicorn.Server):
    """A uvicorn server without the two pauses of 0.1 s at shutdown: the tests start it a thousand times."""

    async def main_loop(self) -> None:
        while not self.should_exit:  # noqa: ASYNC110  uvicorn sets it, without an event
            await asyncio.sleep(0.005)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.tasks:  # noqa: ASYNC110  as uvicorn itself does
            await asyncio.sleep(0.005)
        await self.lifespan.shutdown()


@contextlib.asynccontextmanager
async def run_app(app: ASGIApp) -> AsyncIterator[str]:
    """Run any ASGI app and yield its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        http=LimitedProtocol,
        ws="none",
        lifespan="on",
        proxy_headers=False,
        timeout_keep_alive=75,
    )
    server = FastShutdownServer(config)
    serving_task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not serving_task.done(), "the server did not start"
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving_task
