"""Background maintenance: retries, long deletions, refetches, emails that become free, old sessions, retention.

`run` loops; `run_once` does the work and returns its counts. Any number of processes may run at once and crash
anywhere: a claim is a lease, and each step is idempotent. A step that fails does not stop the others.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

import structlog

from sync_service.clerk.events import Event
from sync_service.errors import DatabaseError
from sync_service.store.changes import FIRST_PAUSE
from sync_service.store.feed import adopt_restored_entries, prune_entries
from sync_service.store.retry_queue import claim_due, prune, seconds_until_due
from sync_service.sync.apply import Applier
from sync_service.sync.email_conflict import restore_emails
from sync_service.sync.refresh import UserRefresher
from sync_service.sync.session_retention import MAX_SESSIONS, PAUSE, delete_expired_sessions

log = structlog.get_logger()

# Seconds between two rounds. Without known work the database is not queried, so that one that sleeps while idle (Neon,
# Supabase) stays asleep.
MIN_PAUSE = 0.2
MAX_PAUSE = 900.0

MAX_CLAIMED = 50

# Cascades that run beside the other steps, each on a connection of its own.
MAX_CASCADES = 3

# Small enough for short statements, large enough for retention to keep up with a busy inbox.
PRUNE_BATCH_SIZE = 1000


class MaintenanceWorker:
    """The background work of one process."""

    def __init__(
        self, applier: Applier, retention: timedelta, wake: asyncio.Event, refresher: UserRefresher | None = None
    ) -> None:
        """Work through `applier`; remove payloads older than `retention`; start a round when `wake` is set."""
        self._refresher = refresher
        self._wake = wake
        self._applier = applier
        self._retention = retention
        self._last_restored = ""
        self._next_expiry = 0.0
        self._cascades: set[asyncio.Task[Counter[str]]] = set()

    async def run(self) -> None:
        """Work until cancelled; an error is logged, and the next round follows."""
        try:
            while True:
                self._wake.clear()
                counts = await self._run_steps()
                has_more = (
                    counts["pruned"] >= PRUNE_BATCH_SIZE or counts["expired"] >= MAX_SESSIONS or self._last_restored
                )
                seconds = FIRST_PAUSE.total_seconds()
                if not counts["errors"]:
                    seconds = MIN_PAUSE if has_more else await self._seconds_to_wait()
                # Jitter keeps processes out of step. A parked event ends the pause early.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds * random.uniform(1, 1.25)):  # noqa: S311  no secret
                        await self._wake.wait()
                        await asyncio.sleep(MIN_PAUSE)
        finally:
            for task in self._cascades:
                task.cancel()

    async def _seconds_to_wait(self) -> float:
        can_refetch = bool(self._refresher and self._refresher.can_refresh)
        can_delete = len(self._cascades) < MAX_CASCADES
        try:
            async with self._applier.store.database.acquire() as connection:
                seconds = await seconds_until_due(connection, can_refetch=can_refetch, can_delete=can_delete)
        except DatabaseError:
            return FIRST_PAUSE.total_seconds()
        return MAX_PAUSE if seconds is None else min(max(seconds, MIN_PAUSE), MAX_PAUSE)

    async def run_once(self) -> Counter[str]:
        """Do the work that is due, until its end; return the number of events by outcome.

        The counts also include users `refetched`, emails `restored`, sessions `expired`, rows `pruned`, and steps that
        failed as `errors`.
        """
        counts = await self._run_steps()
        while self._cascades:
            for task in [*self._cascades]:
                counts.update(await task)
            counts.update(await self._run_step(self._start_deletions))
        return +counts

    async def _run_steps(self) -> Counter[str]:
        """Do each step in turn; deletions continue beside the later steps and rounds."""
        counts: Counter[str] = Counter()
        steps = (
            *(self._start_deletions, self._retry, self._refetch, self._restore_emails),
            *(self._delete_expired_sessions, self._prune),
        )
        for step in steps:
            counts.update(await self._run_step(step))
        return counts

    async def _run_step(self, step: Callable[[], Awaitable[Counter[str]]]) -> Counter[str]:
        try:
            return await step()
        except DatabaseError as error:
            log.warning("maintenance_delayed", reason=error.reason)
        except Exception as error:  # a bug in one step must not end the others
            log.critical("unhandled_exception", exc_info=error)
        return Counter(errors=1)

    async def _retry(self) -> Counter[str]:
        async with self._applier.store.database.acquire() as connection:
            due = await claim_due(connection, MAX_CLAIMED)
        counts = Counter(outcome.outcome for outcome in await self._applier.apply_again(due))
        if due:
            log.info("retry_finished", **counts)
        return counts

    async def _start_deletions(self) -> Counter[str]:
        """Start as many deletions as may run at once."""
        if free := MAX_CASCADES - len(self._cascades):
            async with self._applier.store.database.acquire() as connection:
                due = await claim_due(connection, free, deletions=True)
            for event in due:
                task = asyncio.create_task(self._run_step(partial(self._delete, event)))
                self._cascades.add(task)
                task.add_done_callback(self._finish_deletion)
        return Counter()

    async def _delete(self, event: Event) -> Counter[str]:
        [outcome] = await self._applier.apply_again([event])
        log.info("retry_finished", **{outcome.outcome: 1})
        return Counter([outcome.outcome])

    def _finish_deletion(self, task: asyncio.Task[Counter[str]]) -> None:
        self._cascades.discard(task)
        self._wake.set()

    async def _refetch(self) -> Counter[str]:
        return Counter(refetched=await self._refresher.refetch_pending() if self._refresher else 0)

    async def _restore_emails(self) -> Counter[str]:
        restored, self._last_restored = await restore_emails(self._applier.store, after=self._last_restored)
        return Counter(restored=restored)

    async def _delete_expired_sessions(self) -> Counter[str]:
        now = asyncio.get_running_loop().time()
        if now < self._next_expiry:
            return Counter()
        expired = await delete_expired_sessions(self._applier)
        if expired < MAX_SESSIONS:
            self._next_expiry = now + PAUSE
        return Counter(expired=expired)

    async def _prune(self) -> Counter[str]:
        async with self._applier.store.database.acquire() as connection:
            await adopt_restored_entries(connection)
            pruned = await prune(connection, self._retention, PRUNE_BATCH_SIZE)
            return Counter(pruned=pruned + await prune_entries(connection, PRUNE_BATCH_SIZE))
