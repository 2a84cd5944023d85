"""Requests to POST /sync, and the settings of a service that may call Clerk's API."""

from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import asyncpg
import httpx2

from tests.clerk_stub import (
    API_TOKEN,
    ISSUER,
    SECRET_KEY,
    ClerkStub,
    export_public_key,
    make_bearer_header,
    make_session_token,
)
from tests.world import World


def build_settings(clerk: ClerkStub, **changes: Any) -> dict[str, Any]:
    """Return the settings of a service that may call the stub."""
    return {
        "clerk_secret_key": SECRET_KEY,
        "clerk_api_url": clerk.url,
        "clerk_jwt_key": export_public_key(),
        "clerk_issuer": ISSUER,
        "sync_api_token": API_TOKEN,
        # On a slow machine a test may outlast the minute before the first run, which would ask the stub.
        "sync_reconcile_every": timedelta(),
        **changes,
    }


async def post_sync(world: World, user_id: str = "user_1", query: str = "", **options: Any) -> httpx2.Response:
    """Call /sync with a session token of the user."""
    headers = make_bearer_header(make_session_token(user_id)) | options.pop("headers", {})
    return await world.client.post(f"/sync{query}", headers=headers, **options)


async def post_sync_as_backend(world: World, user_id: str = "user_1", query: str = "", **body: Any) -> httpx2.Response:
    """Call /sync with the service token, as the app's backend does."""
    return await world.client.post(
        f"/sync{query}", headers=make_bearer_header(API_TOKEN), json={"user_id": user_id, **body}
    )


async def read_outcome(response: httpx2.Response | Awaitable[httpx2.Response]) -> str:
    """Return the outcome in a response of 200; the response may still be awaited."""
    found = response if isinstance(response, httpx2.Response) else await response
    assert found.status_code == 200, found.text
    return str(found.json()["outcome"])


async def age_identities(db: asyncpg.Connection, interval: str = "2 days") -> None:
    """Move every user's last confirmation back by the interval."""
    await db.execute(f"update clerk_sync.identities set confirmed_at = confirmed_at - interval '{interval}'")
