"""Tries again what failed, finishes long deletions, gives addresses back, forgets what is old.

`run` loops, `run_once` works and says what it did. Any number of processes may run at once, and crash anywhere: a
claim is a lease, and every step bears repetition.
"""

import asyncio
import contextlib
import random
from collections import Counter
from datetime import timedelta

import structlog

from sync_service.errors import DatabaseFault
from sync_service.postgres.faults import translated
from sync_service.postgres.inbox import FIRST_PAUSE
from sync_service.postgres.queue import claim_due, forget, seconds_until_due
from sync_service.sync.apply import Applier
from sync_service.sync.asking import Questions
from sync_service.sync.attempt import attempt
from sync_service.sync.conflict import give_back_addresses

log = structlog.get_logger()

# Between two looks there is at least this much, and at most this much. Nothing is looked at when nothing is known to
# be due: a database that sleeps when nobody calls (Neon, Supabase) is let sleep.
LEAST_SECONDS = 0.2
MOST_SECONDS = 900.0

BATCH = 50

# So that retention catches up with a busy inbox, and yet no statement is long.
FORGET_BATCH = 1000


class Retry:
    """The work that nobody waits for."""

    def __init__(
        self, applier: Applier, retention: timedelta, woken: asyncio.Event, questions: Questions | None = None
    ) -> None:
        """Work through `applier`; forget payloads older than `retention`; look again when `woken`.

        `questions` asks Clerk about what only Clerk knows.
        """
        self._questions = questions
        self._woken = woken
        self._applier = applier
        self._retention = retention

    async def run(self) -> None:
        """Work until cancelled; whatever goes wrong is told and tried again later."""
        while True:
            self._woken.clear()
            try:
                done = await self.run_once()
                more = done["forgotten"] >= FORGET_BATCH
                seconds = LEAST_SECONDS if more else await self._seconds_to_wait()
            except DatabaseFault as fault:
                log.warning("background work waits", reason=fault.reason)
                seconds = FIRST_PAUSE.total_seconds()
            except Exception as error:  # a bug in one round must not end all the rounds after it
                log.critical("bug", exc_info=error)
                seconds = FIRST_PAUSE.total_seconds()
            # Not in step with other processes; sooner if this one parks something.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds * random.uniform(1, 1.25)):  # noqa: S311  no secret
                    await self._woken.wait()
                    await asyncio.sleep(LEAST_SECONDS)

    async def _seconds_to_wait(self) -> float:
        with translated():
            async with self._applier.pool.acquire() as connection:
                seconds = await seconds_until_due(connection, can_ask=bool(self._questions and self._questions.can_ask))
        return MOST_SECONDS if seconds is None else min(max(seconds, LEAST_SECONDS), MOST_SECONDS)

    async def run_once(self) -> Counter[str]:
        """Do what is due now; return how many events came to what, how many users Clerk was `asked` about.

        Also `addresses` given back and rows `forgotten`.

        Raises `DatabaseFault`.
        """
        pool = self._applier.pool
        with translated():
            async with pool.acquire() as connection:
                due = await claim_due(connection, BATCH)
        done = Counter(outcome.outcome for _, outcome in await attempt(self._applier, due))
        if due:
            log.info("tried again", **done)
        done["asked"] = await self._questions.ask_about_doubts() if self._questions else 0
        done["addresses"] = await give_back_addresses(pool, self._applier.statements)
        with translated():
            async with pool.acquire() as connection:
                done["forgotten"] = await forget(connection, self._retention, FORGET_BATCH)
        return +done
