"""The outside, as tests/scenarios speak of it: Clerk's events, a sender like Svix, the app's table."""

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
from sync_service.postgres.statements import quoted
from sync_service.settings import Settings
from sync_service.web.app import create_app
from sync_service.web.protocol import CoalescingProtocol

PII_SENTINEL = "PII_SENTINEL"
SECRET = "whsec_c2VudGluZWwvU0VDUkVUU0VOVElORUwvMDEyMzQ1"
OLDER_SECRET = "whsec_b2xkZXIvU0VDUkVUU0VOVElORUwvMDEyMzQ1Njc4"
SECRETS = (SECRET.removeprefix("whsec_"), OLDER_SECRET.removeprefix("whsec_"), "SECRET_SENTINEL")
INSTANCE = "ins_2testtesttesttesttesttestte"

# Three instants in milliseconds, a day ago and a second apart.
T0 = (int(time.time()) - 86_400) * 1000
T1, T2, T3 = T0 + 1000, T0 + 2000, T0 + 3000

_ids = itertools.count(1)


def email(local: str, *, verified: bool = True, address_id: str | None = None) -> dict[str, Any]:
    """Return an entry of `email_addresses`; the address holds the sentinel."""
    verification = {"status": "verified" if verified else "unverified", "strategy": "email_code"}
    return {
        "id": address_id or f"idn_{local}",
        "object": "email_address",
        "email_address": f"{local}.{PII_SENTINEL}@example.com",
        "verification": verification,
        "linked_to": [],
    }


def with_email(local: str, **options: Any) -> dict[str, Any]:
    """Return the fields of a user whose primary address that is."""
    address = email(local, **options)
    return {"email_addresses": [address], "primary_email_address_id": address["id"]}


def user_data(user_id: str, updated_at: int, **data: Any) -> dict[str, Any]:
    """Return Clerk's user, as little of it as may come, with names that hold the sentinel."""
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


def event(event_type: str, user_id: str, updated_at: int = T1, **data: Any) -> dict[str, Any]:
    """Return the body of an event."""
    content = (
        {"id": user_id, "deleted": True, "object": "user"} | data
        if event_type == "user.deleted"
        else user_data(user_id, updated_at, **data)
    )
    return {
        "type": event_type,
        "object": "event",
        "timestamp": updated_at,
        "instance_id": INSTANCE,
        "data": content,
    }


def as_bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()


def signed(body: bytes, message_id: str, *, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """Return the headers that Svix would send."""
    seconds = int(time.time() if at is None else at)
    signature = Webhook(secret).sign(message_id, datetime.fromtimestamp(seconds, tz=UTC), body.decode())
    return {"svix-id": message_id, "svix-timestamp": str(seconds), "svix-signature": signature}


def message() -> str:
    return f"msg_{next(_ids):012}"


async def until(true: Callable[[], Awaitable[Any] | Any], seconds: float = 10) -> None:
    """Wait until that is so; what never comes fails instead of hanging."""
    deadline = time.monotonic() + seconds
    while True:
        found = true()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < deadline, "it never came to be"
        await asyncio.sleep(0.01)


async def waiting_for_locks(connection: asyncpg.Connection) -> int:
    """Return how many sessions of this database wait for a lock. Inside a transaction it would see the past."""
    sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    return int(await connection.fetchval(sql))


@dataclass
class World:
    """The service as its callers see it, and the database beside it; `mapping` says which table is the app's."""

    client: httpx2.AsyncClient
    db: asyncpg.Connection
    mapping: TableMapping = DEFAULT
    accepted: list[tuple[str, bytes]] = field(default_factory=list)

    async def post(self, body: bytes, headers: dict[str, str], path: str = "/webhooks/clerk") -> httpx2.Response:
        """Post just that."""
        answer = await self.client.post(path, content=body, headers={"content-type": "application/json"} | headers)
        assert PII_SENTINEL not in answer.text  # I5
        if answer.is_success:
            self.accepted.append((headers.get("svix-id") or headers["webhook-id"], body))
        return answer

    async def deliver(self, body: Any, message_id: str | None = None, **signing: Any) -> httpx2.Response:
        """Deliver an event as Svix does."""
        content = as_bytes(body)
        message_id = message_id or message()
        return await self.post(content, signed(content, message_id, **signing))

    async def outcome(self, body: Any, message_id: str | None = None) -> str:
        """Deliver an event that is accepted; return what became of it."""
        answer = await self.deliver(body, message_id)
        assert answer.is_success, answer.text
        return str(answer.json()["outcome"])

    async def user(self, user_id: str) -> dict[str, Any] | None:
        """Return U(user_id)."""
        row = await self.db.fetchval(
            f"select to_jsonb(u) from {self.table} u where {quoted(self.mapping.clerk_id)} = $1", user_id
        )
        return json.loads(row) if row else None

    @property
    def table(self) -> str:
        """The app's table, for SQL."""
        return f"{quoted(self.mapping.schema)}.{quoted(self.mapping.table)}"

    async def event(self, message_id: str) -> dict[str, Any] | None:
        """Return E(message_id)."""
        row = await self.db.fetchrow("select * from clerk_sync.events where id = $1", message_id)
        return dict(row) if row else None

    async def users(self) -> list[Any]:
        """Return the whole table."""
        rows = await self.db.fetch(f"select * from {self.table} order by {quoted(self.mapping.clerk_id)}")
        return [tuple(row) for row in rows]

    async def check_invariants(self) -> None:
        """Check I2, I3 and I6; a unique index sees to I1, `post` to I5, the fixture `output` to I4."""
        for message_id, _ in self.accepted:
            filed = await self.event(message_id)
            assert filed, f"{message_id} was accepted and forgotten"
            assert filed["status"] in {"applied", "stale", "ignored"} or filed["next_attempt_at"]
        if self.mapping.on_delete != "anonymize":
            active = "true" if self.mapping.deleted_at is None else f"u.{quoted(self.mapping.deleted_at)} is null"
            ghosts = (
                f"select count(*) from {self.table} as u"
                f" join clerk_sync.identities as i on u.{quoted(self.mapping.clerk_id)} = i.clerk_id"
                f" where i.deleted_at is not null and {active}"
            )
            assert await self.db.fetchval(ghosts) == 0
        before = await self.users()
        again = self.accepted * 2
        random.Random(len(again)).shuffle(again)
        for message_id, body in again:
            answer = await self.post(body, signed(body, message_id))
            assert answer.is_success
        assert await self.users() == before


@contextlib.asynccontextmanager
async def serving(settings: Settings, db: asyncpg.Connection, **changes: Any) -> AsyncIterator[World]:
    """Serve the app on a port of its own for the length of the block."""
    settings = replace(settings, **changes)
    async with (
        served(settings) as address,
        httpx2.AsyncClient(base_url=address, timeout=15) as client,
    ):
        yield World(client, db, settings.mapping)


@contextlib.asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[str]:
    """Serve the app, and yield its address."""
    async with served_app(create_app(settings)) as address:
        yield address


class Prompt(uvicorn.Server):
    """Ends as uvicorn does, without its two pauses of a tenth of a second: it is started a thousand times."""

    async def main_loop(self) -> None:
        while not self.should_exit:  # noqa: ASYNC110  uvicorn sets it, and nothing else
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
async def served_app(app: ASGIApp) -> AsyncIterator[str]:
    """Serve any app, and yield its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, access_log=False, http=CoalescingProtocol, ws="none", lifespan="on")
    server = Prompt(config)
    serving_task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not serving_task.done(), "the server did not start"
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving_task
