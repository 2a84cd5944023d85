"""A fault run: the service under load during a fault, and the checks of data and responses afterwards."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import asyncpg

from tests.faults.engine import Engine
from tests.faults.expected_table import Message, count_unfinished, find_differences, find_lost, fold, generate_messages
from tests.faults.sender import Sender
from tests.faults.service import Service
from tests.world import wait_until

# Number of kills: a few in each run of the tests, a hundred in `make faults`.
KILLS = int(os.environ.get("FAULTS_KILLS", "2"))

# The kills are split into tests of at most ten, because pytest limits the duration of a test.
PARTS = [min(10, KILLS - done) for done in range(0, KILLS, 10)]

# Rounds of slow faults: they take longer than a kill, so there are fewer.
ROUNDS = 1 + KILLS // 50

# Messages per second: enough for some running requests at any time, and few enough for two shared cores. In a run of
# all tests other tests use the cores as well.
RATE = 50 if KILLS > 2 else 25

# Below the limit of pytest (pyproject.toml), with room for a slow machine.
RUN_TIMEOUT = 240
RECOVERY_TIMEOUT = 45

TERMINATE = """
    select count(pg_terminate_backend(pid)) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
"""

# A kill in the middle of an attempt leaves a lease of minutes, and a slow machine adds long pauses between attempts.
COUNT_LATE = """
    select count(*) from clerk_sync.events where status = 'failed' and next_attempt_at > now() + interval '10 seconds'
"""

# The longest time without a commit since a moment.
WRITE_GAP = """
    select max(gap)
    from (
        select received_at, received_at - lag(received_at) over (order by received_at) as gap from clerk_sync.events
    ) as events
    where received_at > $1
"""

_numbers = count(1)


@dataclass
class Figures:
    """One line of the table at the end."""

    fault: str
    injected: int = 0
    sent: int = 0
    acknowledged: int = 0
    attempts: int = 0
    lost: int = 0


@dataclass
class FaultRun:
    """The service, its load and its database during a fault."""

    engine: Engine
    database: str
    services: list[Service]
    sender: Sender
    rng: random.Random
    figures: Figures
    issued: list[Message] = field(default_factory=list)
    # Whether the fault kills services. Then connections may break; else each attempt must get a response.
    ends_services: bool = False
    _load: asyncio.Task[None] | None = None
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, low: float, high: float) -> None:
        """Let the load continue for a random time."""
        await asyncio.sleep(self.rng.uniform(low, high))

    def count_injected(self, times: int = 1) -> None:
        self.figures.injected += times

    async def terminate_connections(self, times: int) -> None:
        """Terminate all connections of the database at random moments."""
        async with self.engine.connect(self.database) as db:
            for _ in range(times):
                await self.wait(0, 0.3)
                self.count_injected(await db.fetchval(TERMINATE))
        assert self.figures.injected, "the database had no connection to terminate"

    def start_load(self) -> None:
        """Start to send messages."""
        self._load = asyncio.create_task(self._send_load())

    async def _send_load(self) -> None:
        """Send messages until the load is finished, and wait for the last one."""
        messages = generate_messages(self.rng, f"{self.database}x")
        async with asyncio.TaskGroup() as group:
            while not self._over.is_set():
                self.issued.append(message := next(messages))
                group.create_task(self.sender.deliver(message))
                await asyncio.sleep(self.rng.expovariate(RATE))

    async def finish_load(self) -> None:
        """Stop the load and resend until every message is acknowledged."""
        for service in self.services:
            await service.wait_until_ready(RECOVERY_TIMEOUT)
        self._over.set()
        deadline = time.monotonic() + RECOVERY_TIMEOUT
        assert self._load
        await self._load
        while any(not delivery.acknowledged for delivery in self.sender.deliveries):
            pending = {d.message.id: d.last_response for d in self.sender.deliveries if not d.acknowledged}
            assert time.monotonic() < deadline, f"never acknowledged: {pending}"
            await self.sender.resend()

    async def check_data(self) -> None:
        """Check that no acknowledged message is lost and that the table equals the fold of all messages."""
        async with self.engine.connect(self.database) as db:
            self.figures.sent = len({message.id for message in self.issued})
            self.figures.acknowledged = len(self.sender.acknowledged)
            self.figures.attempts = len(self.sender.results)
            lost = await find_lost(db, self.sender.acknowledged)
            self.figures.lost = len(lost)
            assert not lost, f"acknowledged with 2xx and lost: {lost}"
            assert self.figures.acknowledged == self.figures.sent > 0
            if await db.fetchval(COUNT_LATE):
                await self._pass_time(db)
            await wait_until(lambda: _is_finished(db), RECOVERY_TIMEOUT)
            wrong = await find_differences(db, fold(self.issued))
            assert not wrong, f"{len(wrong)} rows are wrong: {wrong[:10]}"

    async def measure_write_gap(self, since: datetime) -> float:
        """Return the longest time without a commit since then, in seconds."""
        async with self.engine.connect(self.database) as db:
            gap: timedelta = await db.fetchval(WRITE_GAP, since)
            return gap.total_seconds()

    async def _pass_time(self, db: asyncpg.Connection) -> None:
        """Make all events due, as the passing minutes would, and start the services again, which sleep until then."""
        for service in self.services:
            assert await service.stop(signal.SIGTERM) == 0
        await db.execute("update clerk_sync.events set next_attempt_at = now() where status = 'failed'")
        for service in self.services:
            service.start()
            await service.wait_until_ready(RECOVERY_TIMEOUT)

    async def check_responses(self) -> None:
        """Check the times and statuses of the responses, and that the service stops in order."""
        late = self.sender.find_late()
        assert not late, f"late responses: {late[:5]}"
        assert not self.sender.find_refused_statuses(), f"statuses: {self.sender.find_refused_statuses()}"
        if not self.ends_services:
            assert not self.sender.find_unanswered(), f"without a response: {self.sender.find_unanswered()[:5]}"
        for service in self.services:
            assert await service.stop(signal.SIGTERM) == 0

    async def close(self) -> None:
        """Stop all processes and tasks."""
        if self._load:
            self._load.cancel()
            await asyncio.gather(self._load, return_exceptions=True)
        await self.sender.client.aclose()
        for service in self.services:
            service.close()


async def _is_finished(db: asyncpg.Connection) -> bool:
    return await count_unfinished(db) == 0


@contextlib.asynccontextmanager
async def run_service_under_fault(
    engine: Engine,
    folder: Path,
    figures: Figures,
    *,
    services: int = 1,
    port: int | None = None,
    query: str = "",
    tablespace: str = "pg_default",
    ends_services: bool = False,
    start: bool = True,
    build_dsn: Callable[[str], str] | None = None,
) -> AsyncIterator[FaultRun]:
    """Run the service with a database of its own under load; check data and responses after the block.

    `port` and `query` belong to a proxy in front of PostgreSQL, as the service sees it; `build_dsn` to several servers.
    """
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(2**32))
    database = f"faults{next(_numbers)}"
    async with engine.connect("postgres") as admin:
        await admin.execute(f"create database {database} template template_migrated tablespace {tablespace}")
    rng = random.Random(seed)
    dsn = build_dsn(database) if build_dsn else engine.dsn(database, port, query)
    processes = [Service(folder, dsn) for _ in range(services)]
    sender = Sender([f"{service.url}/webhooks/clerk" for service in processes], rng)
    run = FaultRun(engine, database, processes, sender, rng, figures, ends_services=ends_services)
    try:
        async with asyncio.timeout(RUN_TIMEOUT):
            if start:
                for service in processes:
                    service.start()
                for service in processes:
                    await service.wait_until_ready()
                run.start_load()
            yield run
            await run.finish_load()
            await run.check_data()
            await run.check_responses()
    except BaseException as error:
        error.add_note(f"FAULTS_SEED={seed}")
        raise
    finally:
        await run.close()
