"""Notifications to a local receiver: the rate with many changes waiting, and the time from the commit to the request.

Service, receiver and PostgreSQL share the cores of this machine.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import asyncpg
import uvloop
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sync_service.dev.embedded import run_embedded_postgres
from sync_service.dsn import parse_dsn
from sync_service.mapping.creation import create_table
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.migrate import migrate
from sync_service.postgres.pool import open_database
from sync_service.store.access import Store
from sync_service.sync.notifier import Notifier, create_client
from tests.world import SECRET, run_app, wait_until

WAITING = 4000
SINGLE = 100

FILL = """
insert into clerk_sync.changes (type, clerk_id, delivery, next_attempt_at)
select 'user.updated', 'user_' || n, 'pending', now() from generate_series(1, $1::integer) as n
"""
ONE = """
insert into clerk_sync.changes (type, clerk_id, delivery, next_attempt_at) values ('user.updated', $1, 'pending', now())
"""


def measure() -> None:
    """Print the rate, and the median time from commit to request."""
    with tempfile.TemporaryDirectory() as name, run_embedded_postgres(Path(name) / "postgres") as postgres:
        uvloop.run(_measure(postgres.dsn()))


async def _measure(dsn: str) -> None:
    arrivals: list[float] = []

    async def receive_change(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await Request(scope, receive).body()
            arrivals.append(time.perf_counter())
            await Response(status_code=204)(scope, receive, send)

    connection = await asyncpg.connect(dsn)
    await migrate(connection)
    await create_table(connection, DEFAULT)
    await connection.execute(FILL, WAITING)
    database = await open_database(parse_dsn(dsn))
    async with run_app(receive_change) as url:
        notifier = Notifier(Store(database, DEFAULT), create_client(url), f"{url}/", (SECRET,))
        began = time.perf_counter()
        running = asyncio.create_task(notifier.run())
        await wait_until(lambda: len(arrivals) == WAITING, 120)
        print(f"  {WAITING / (time.perf_counter() - began):,.0f} notifications a second, {WAITING:,} waiting")
        taken = []
        for number in range(SINGLE):
            await connection.execute(ONE, f"user_{number}")
            committed, count = time.perf_counter(), len(arrivals) + 1
            notifier.wake.set()
            while len(arrivals) < count:  # noqa: ASYNC110  an event would add a switch to the figure
                await asyncio.sleep(0)
            taken.append((arrivals[-1] - committed) * 1000)
        print(f"  {statistics.median(taken):.1f} ms from the commit to the request, median of {SINGLE}")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await database.aclose()
    await connection.close()
