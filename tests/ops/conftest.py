"""The service with an operators' token, and an operator's client."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.clerk_stub import ClerkStub, make_bearer_header
from tests.conftest import Serve
from tests.sync_requests import build_settings
from tests.world import World, make_message_id

OPS_TOKEN = "SECRET_SENTINEL_of_the_operators"

FAILED_DELIVERY = """
insert into clerk_sync.changes (type, clerk_id, delivery, attempts, reason)
values ('user.updated', 'user_1', 'delivered', 1, null), ('user.created', 'user_1', 'dead', 8, 'http_410')
"""


@dataclass
class OpsWorld(World):
    """The service as an operator with the token sees it."""

    async def ops(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Send a request with the token, and check the headers that each response has."""
        headers = make_bearer_header(OPS_TOKEN) | options.pop("headers", {})
        response = await self.client.request(method, path, headers=headers, **options)
        check_headers(response)
        return response

    async def read(self, path: str, **options: Any) -> Any:
        """Return the JSON of a successful GET."""
        response = await self.ops("GET", path, **options)
        assert response.status_code == 200, response.text
        return response.json()

    async def act(self, path: str, status: int = 200, **options: Any) -> Any:
        """Return the JSON of a POST with this status."""
        response = await self.ops("POST", path, **options)
        assert response.status_code == status, response.text
        return response.json()

    async def park(self, body: dict[str, Any]) -> str:
        """Deliver an event that the table refuses at first, and return its ID."""
        message_id = make_message_id()
        await self.db.execute("alter table users add constraint refuses check (id = '') not valid")
        response = await self.deliver(body, message_id)
        assert response.status_code == 202, response.text
        await hold_retries(self.db)
        await self.db.execute("alter table users drop constraint refuses")
        return message_id

    async def replay(self, message_id: str, status: int = 200, **parameters: str) -> Any:
        """Return the JSON of a replay."""
        return await self.act(f"/ops/events/{message_id}/replay", status, params=parameters)

    async def read_audit(self) -> list[tuple[str, str, str]]:
        """Return who, action and subject of each audit line, the newest first."""
        audit = (await self.read("/ops/audit"))["audit"]
        return [(line["who"], line["action"], line["subject"]) for line in audit]


def check_headers(response: httpx2.Response) -> None:
    """Check that no response may be cached, sniffed, or read by another site."""
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert not [name for name in response.headers if name.startswith("access-control")]
    if not response.is_success:
        assert response.headers["content-type"] == "application/problem+json"


ServeOps = Callable[..., contextlib.AbstractAsyncContextManager[OpsWorld]]


async def hold_retries(db: asyncpg.Connection) -> None:
    """Keep the background from retrying parked events within a test."""
    await db.execute("update clerk_sync.events set next_attempt_at = now() + interval '1 hour' where status = 'failed'")


@pytest.fixture
def serve_ops(serve: Serve) -> ServeOps:
    """Return a function that serves with the operators' token and some settings changed."""

    @contextlib.asynccontextmanager
    async def run(**changes: Any) -> AsyncIterator[OpsWorld]:
        async with serve(**{"sync_ops_token": OPS_TOKEN} | changes) as world:
            yield OpsWorld(world.client, world.db, world.mapping)

    return run


@pytest.fixture
async def ops(serve_ops: ServeOps) -> AsyncIterator[OpsWorld]:
    """The service without a key for Clerk's API."""
    async with serve_ops() as world:
        yield world


@pytest.fixture
async def ops_with_clerk(serve_ops: ServeOps, clerk: ClerkStub) -> AsyncIterator[OpsWorld]:
    """The service with a key for the stub of Clerk."""
    async with serve_ops(**build_settings(clerk)) as world:
        yield world
