"""A siege: the service under load while something breaks, and what must hold when it is over."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import asyncpg

from tests.faults.engine import Engine
from tests.faults.sender import Sender
from tests.faults.service import Service
from tests.faults.truth import Message, differences, fold, histories, lost, unfinished
from tests.world import wait_until

# How often something is killed: a few times in every run of the tests, a hundred times in `make faults`.
KILLS = int(os.environ.get("FAULTS_KILLS", "3"))

# A part of the kills is a test of its own, so that none runs longer than pytest lets a test run.
PARTS = [min(10, KILLS - done) for done in range(0, KILLS, 10)]

# What does not kill takes its time: it is tried less often.
ROUNDS = 1 + KILLS // 50

# Messages a second: enough that always some are under way, and little enough for two shared cores.
RATE = 50

SIEGE_SECONDS = 110
RECOVERY_SECONDS = 45

TERMINATE = """
    select count(pg_terminate_backend(pid)) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
"""

_numbers = count(1)


@dataclass
class Figures:
    """A line of the table that is printed at the end."""

    fault: str
    injected: int = 0
    sent: int = 0
    acknowledged: int = 0
    attempts: int = 0
    lost: int = 0


@dataclass
class Siege:
    """The service, its load and its database while a fault is on."""

    engine: Engine
    database: str
    services: list[Service]
    sender: Sender
    rng: random.Random
    figures: Figures
    issued: list[Message] = field(default_factory=list)
    # Whether the fault ends services: then connections may break; else each attempt has an answer.
    mortal: bool = False
    _feeding: asyncio.Task[None] | None = None
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def pause(self, low: float, high: float) -> None:
        """Let the load run on for a random while."""
        await asyncio.sleep(self.rng.uniform(low, high))

    def injected(self, times: int = 1) -> None:
        self.figures.injected += times

    async def terminate(self, times: int) -> None:
        """Have the server end all connections of the database at random moments."""
        async with self.engine.connected(self.database) as db:
            for _ in range(times):
                await self.pause(0, 0.3)
                self.injected(await db.fetchval(TERMINATE))
        assert self.figures.injected, "there was nothing to terminate"

    def attack(self) -> None:
        """Begin the load."""
        self._feeding = asyncio.create_task(self._feed())

    async def _feed(self) -> None:
        """Send history after history until the siege is over, and wait for the last message."""
        messages = histories(self.rng, f"{self.database}x")
        async with asyncio.TaskGroup() as group:
            while not self._over.is_set():
                self.issued.append(message := next(messages))
                group.create_task(self.sender.deliver(message))
                await asyncio.sleep(self.rng.expovariate(RATE))

    async def lift(self) -> None:
        """End the load, and send again until everything is acknowledged."""
        for service in self.services:
            await service.ready(RECOVERY_SECONDS)
        self._over.set()
        deadline = time.monotonic() + RECOVERY_SECONDS
        assert self._feeding
        await self._feeding
        while any(not delivery.acknowledged for delivery in self.sender.deliveries):
            left = {d.message.id: d.answer for d in self.sender.deliveries if not d.acknowledged}
            assert time.monotonic() < deadline, f"never acknowledged: {left}"
            await self.sender.recover()

    async def account(self) -> None:
        """Check that what was acknowledged is accounted for, and that the table is the truth."""
        async with self.engine.connected(self.database) as db:
            self.figures.sent = len({message.id for message in self.issued})
            self.figures.acknowledged = len(self.sender.acknowledged)
            self.figures.attempts = len(self.sender.answers)
            gone = await lost(db, self.sender.acknowledged)
            self.figures.lost = len(gone)
            assert not gone, f"answered 2xx and forgotten: {gone}"
            assert self.figures.acknowledged == self.figures.sent > 0
            await wait_until(lambda: _finished(db), RECOVERY_SECONDS)
            wrong = await differences(db, fold(self.issued))
            assert not wrong, f"{len(wrong)} rows are not the truth: {wrong[:10]}"

    async def behaved(self) -> None:
        """Check how the service answered, and that it ends when it is told to."""
        late = self.sender.late()
        assert not late, f"answers that came too late: {late[:5]}"
        assert not self.sender.refused(), f"statuses: {self.sender.refused()}"
        if not self.mortal:
            assert not self.sender.unanswered(), f"without an answer: {self.sender.unanswered()[:5]}"
        for service in self.services:
            assert await service.end(signal.SIGTERM) == 0

    async def close(self) -> None:
        """Leave nothing running."""
        if self._feeding:
            self._feeding.cancel()
            await asyncio.gather(self._feeding, return_exceptions=True)
        await self.sender.client.aclose()
        for service in self.services:
            service.close()


async def _finished(db: asyncpg.Connection) -> bool:
    return await unfinished(db) == 0


@contextlib.asynccontextmanager
async def besieged(
    engine: Engine,
    folder: Path,
    figures: Figures,
    *,
    services: int = 1,
    port: int | None = None,
    query: str = "",
    tablespace: str = "pg_default",
    mortal: bool = False,
    started: bool = True,
) -> AsyncIterator[Siege]:
    """Serve a database of its own under load; when the block is through, everything must come right.

    `port` and `query` are of what stands in front of PostgreSQL, as the service sees it.
    """
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(2**32))
    database = f"siege{next(_numbers)}"
    async with engine.connected("postgres") as admin:
        await admin.execute(f"create database {database} template template_migrated tablespace {tablespace}")
    rng = random.Random(seed)
    walls = [Service(folder, engine.dsn(database, port, query)) for _ in range(services)]
    sender = Sender([f"{service.url}/webhooks/clerk" for service in walls], rng)
    siege = Siege(engine, database, walls, sender, rng, figures, mortal=mortal)
    try:
        async with asyncio.timeout(SIEGE_SECONDS):
            if started:
                for service in walls:
                    service.start()
                for service in walls:
                    await service.ready()
                siege.attack()
            yield siege
            await siege.lift()
            await siege.account()
            await siege.behaved()
    except BaseException as error:
        error.add_note(f"FAULTS_SEED={seed}")
        raise
    finally:
        await siege.close()
