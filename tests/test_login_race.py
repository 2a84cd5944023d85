"""Twenty concurrent logins and the user's webhook, over three processes."""

import asyncio
import os
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import asyncpg
import httpx2

from tests.clerk_stub import ISSUER, SECRET_KEY, ClerkStub, export_public_key, make_bearer_header, make_session_token
from tests.processes import Process, start_command
from tests.world import SECRET, T1, encode_body, make_event, make_message_id, sign_event

ROUNDS = int(os.environ.get("RACES", "50"))
PROCESSES = 3


async def test_concurrent_logins_and_the_webhook_create_one_row(
    database: str, db: asyncpg.Connection, clerk: ClerkStub, tmp_path: Path
) -> None:
    """Every response is 2xx with the same row, in 50 rounds with fresh IDs (A2, A3)."""
    clerk.delay = 0.02
    environ = {
        "DATABASE_URL": database,
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
        "CLERK_SECRET_KEY": SECRET_KEY,
        "CLERK_API_URL": clerk.url,
        "CLERK_JWT_KEY": export_public_key(),
        "CLERK_ISSUER": ISSUER,
    }
    with ExitStack() as processes:
        running = [processes.enter_context(start_command("serve", cwd=tmp_path, **environ)) for _ in range(PROCESSES)]
        async with AsyncExitStack() as clients:
            callers = [await clients.enter_async_context(await _open_client(process)) for process in running]
            for number in range(ROUNDS):
                await _race_logins(callers, clerk, f"user_{number}")
        assert await db.fetchval("select count(*) from users") == ROUNDS
        assert await db.fetchval("select count(*) from clerk_sync.fetches") == 0
    # Each process may make one request before the webhook or another process has stored the user. More are too many.
    assert clerk.user_calls <= ROUNDS * 2


async def _open_client(process: Process) -> httpx2.AsyncClient:
    await asyncio.to_thread(process.wait_for, '"event":"ready"')
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{process.port}", timeout=15)


async def _race_logins(callers: list[httpx2.AsyncClient], clerk: ClerkStub, user_id: str) -> None:
    clerk.add_user(user_id, T1)
    token = make_bearer_header(make_session_token(user_id))
    body = encode_body(make_event("user.created", user_id, T1))
    webhook = callers[0].post("/webhooks/clerk", content=body, headers=sign_event(body, make_message_id()))
    logins = [callers[n % len(callers)].post("/sync", headers=token) for n in range(20)]
    delivered, *responses = await asyncio.gather(webhook, *logins)
    assert delivered.status_code == 200, delivered.text
    assert {response.status_code for response in responses} == {200}, [response.text for response in responses]
    assert {response.json()["user"]["id"] for response in responses} == {user_id}
