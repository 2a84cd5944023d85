"""Notifications to a local receiver: the rate with many changes waiting, and the time from the change to the request.

Service, receiver and PostgreSQL are processes of their own, and share the cores of this machine.
"""

import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx2

from sync_service.dev.embedded import EmbeddedServer, run_embedded_postgres
from tests.benchmarks.bodies import make_body
from tests.benchmarks.targets import wait_for_server
from tests.benchmarks.usage import measure_cpu_seconds
from tests.processes import Process, reserve_port, run_command, start_command
from tests.world import SECRET, sign_event, wait_until

WAITING = 10_000
ROUNDS = 3
SINGLE = 100
PAUSE = 0.02

FILL = """
with users as (
    insert into public.users (id, email, email_verified, first_name, banned, locked, public_metadata)
    select id, id || '@example.com', true, 'Ada', false, false, '{"plan": "pro"}'
    from generate_series(1, $2::integer) as n
    cross join lateral (values ('user_' || $1 || '_' || n)) as new (id)
    returning id
)
insert into clerk_sync.changes (type, clerk_id, app_key, columns, delivery, next_attempt_at)
select 'user.updated', id, to_jsonb(id), '{email,first_name}', 'pending', now() from users
"""
TIMES = "select transaction_id::text || '-' || id as id, extract(epoch from at)::float8 as at from clerk_sync.changes"


def measure() -> None:
    """Print the rate with its costs, and the median time from the change to the request."""
    with (
        tempfile.TemporaryDirectory() as name,
        run_embedded_postgres(Path(name) / "postgres") as postgres,
        run_receiver() as url,
    ):
        environ = {"DATABASE_URL": postgres.dsn(), "CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "QUIET": "1"}
        environ |= {"WEB_CONCURRENCY": "1", "SYNC_NOTIFY_URL": url, "SYNC_NOTIFY_SECRET": SECRET}
        run_command("migrate", cwd=Path(name), **environ)
        with start_command("serve", cwd=Path(name), **environ) as service:
            service.wait_for('"event":"ready"')
            asyncio.run(_measure(postgres, service, url))


async def _measure(postgres: EmbeddedServer, service: Process, url: str) -> None:
    connection = await asyncpg.connect(postgres.dsn())
    async with httpx2.AsyncClient() as client:
        await _send_webhook(client, service, 0)
        rounds = [await _run_round(connection, client, postgres, service, url) for _ in range(ROUNDS)]
        rate, cpu, postgres_cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"  {rate:,.0f} notifications a second, {WAITING:,} waiting, median of {ROUNDS}")
        print(f"  CPU for 1,000: process {cpu:.2f} s, PostgreSQL {postgres_cpu:.2f} s")
        arrivals = await _read_arrivals(client, url)
        for number in range(SINGLE):
            await _send_webhook(client, service, len(arrivals) + number)
            await asyncio.sleep(PAUSE)
        await wait_until(lambda: _has_arrived(client, url, len(arrivals) + SINGLE))
        arrivals = await _read_arrivals(client, url)
        times = await connection.fetch(f"{TIMES} order by changes.id desc limit $1", SINGLE)
        taken = [(arrivals[row["id"]] - row["at"]) * 1000 for row in times]
        print(f"  {statistics.median(taken):.1f} ms from the transaction to the request, median of {SINGLE}")
    await connection.close()


async def _run_round(
    connection: asyncpg.Connection, client: httpx2.AsyncClient, postgres: EmbeddedServer, service: Process, url: str
) -> tuple[float, float, float]:
    """Return the notifications per second, and the CPU seconds of both processes for 1,000 of them."""
    known = await _read_arrivals(client, url)
    before = measure_cpu_seconds(service.popen.pid), measure_cpu_seconds(postgres.pid)
    await connection.execute(FILL, str(len(known)), WAITING)
    filled = measure_cpu_seconds(postgres.pid)
    await _send_webhook(client, service, len(known))
    await wait_until(lambda: _has_arrived(client, url, len(known) + WAITING), 300)
    after = measure_cpu_seconds(service.popen.pid), measure_cpu_seconds(postgres.pid)
    found = [at for change, at in (await _read_arrivals(client, url)).items() if change not in known]
    thousands = WAITING / 1000
    return len(found) / (max(found) - min(found)), (after[0] - before[0]) / thousands, (after[1] - filled) / thousands


async def _send_webhook(client: httpx2.AsyncClient, service: Process, number: int) -> None:
    """Create a user: changes of one user would wait for each other."""
    body = make_body("user.created", f"user_webhook_{number}", time.time_ns() // 1_000_000)
    headers = sign_event(body, f"msg_{time.time_ns()}")
    response = await client.post(f"http://127.0.0.1:{service.port}/webhooks/clerk", content=body, headers=headers)
    assert response.json() == {"outcome": "applied"}, response.text


async def _has_arrived(client: httpx2.AsyncClient, url: str, count: int) -> bool:
    return bool((await client.get(f"{url}count")).json() >= count)


async def _read_arrivals(client: httpx2.AsyncClient, url: str) -> dict[str, float]:
    return dict((await client.get(url)).json())


@contextlib.contextmanager
def run_receiver() -> Iterator[str]:
    """Run the receiver, and yield its URL."""
    port = reserve_port()
    receiver = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.notification_receiver", str(port)])
    try:
        wait_for_server(receiver, port)
        yield f"http://127.0.0.1:{port}/"
    finally:
        receiver.terminate()
        receiver.wait()
