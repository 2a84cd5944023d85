"""The service is killed while it applies and posts changes; the receiver fails meanwhile. No change is lost."""

import asyncio
import itertools
import random
import signal
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
from starlette.responses import Response

from tests.faults.service import Service
from tests.feed.receiver import NOTIFY_SECRET, Receiver, run_receiver
from tests.feed.test_notifications import check_order, make_due
from tests.world import T1, encode_body, make_event, make_message_id, sign_event

KILLS = 2


async def test_a_killed_service_sends_each_committed_change(
    database: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    """Each change that was committed is accepted in the end, in order for each user; the IDs stay the same."""
    rng = random.Random(29)

    async def answer(_: dict[str, Any]) -> Response:
        await asyncio.sleep(rng.random() / 20)
        return Response(status_code=rng.choice([200, 200, 503]))

    async with run_receiver() as receiver:
        receiver.answer = answer
        service = Service(tmp_path, database)
        service.environ |= {"SYNC_NOTIFY_URL": receiver.url, "SYNC_NOTIFY_SECRET": NOTIFY_SECRET}
        versions = itertools.count(T1)
        try:
            for _ in range(KILLS):
                service.start()
                await service.wait_until_ready()
                sending = [asyncio.create_task(post_webhooks(service.url, versions)) for _ in range(3)]
                await asyncio.sleep(0.4 + rng.random() / 2)
                await service.stop(signal.SIGKILL)
                await asyncio.gather(*sending)
            assert await db.fetchval("select count(*) from clerk_sync.changes where delivery = 'pending'")
            receiver.answer = Receiver.answer
            service.start()
            await service.wait_until_ready()
            # The leases of the killed processes would end after a minute.
            while await db.fetchval("select exists (select from clerk_sync.changes where delivery <> 'delivered')"):
                await make_due(db)
                await post_webhooks(service.url, versions, 1)
                await asyncio.sleep(0.1)
        finally:
            service.close()
    await check_order(db, receiver)
    assert len(receiver.accepted) > 10


async def post_webhooks(url: str, versions: "itertools.count[int]", most: int = 10_000) -> None:
    """Post updates of a few users until the service is gone."""
    async with httpx2.AsyncClient(timeout=15) as client:
        for _ in range(most):
            version = next(versions)
            body = encode_body(make_event("user.updated", f"user_{version % 5}", version))
            try:
                await client.post(f"{url}/webhooks/clerk", content=body, headers=sign_event(body, make_message_id()))
            except httpx2.TransportError:
                return
