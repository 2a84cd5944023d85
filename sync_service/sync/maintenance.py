"""Background maintenance: retries, long deletions, refetches, emails that become free, retention.

`run` loops; `run_once` does the work and returns its counts. Any number of processes may run at once and crash
anywhere: a claim is a lease, and each step is idempotent.
"""

import asyncio
import contextlib
import random
from collections import Counter
from datetime import timedelta

import structlog

from sync_service.errors import DatabaseError
from sync_service.store.changes import FIRST_PAUSE
from sync_service.store.retry_queue import claim_due, prune, seconds_until_due
from sync_service.sync.apply import Applier
from sync_service.sync.email_conflict import restore_emails
from sync_service.sync.refresh import UserRefresher

log = structlog.get_logger()

# Seconds between two rounds. Without known work the database is not queried, so that one that sleeps while idle (Neon,
# Supabase) stays asleep.
MIN_PAUSE = 0.2
MAX_PAUSE = 900.0

MAX_CLAIMED = 50

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

    async def run(self) -> None:
        """Work until cancelled; an error is logged, and the next round follows."""
        while True:
            self._wake.clear()
            try:
                counts = await self.run_once()
                has_more = counts["pruned"] >= PRUNE_BATCH_SIZE
                seconds = MIN_PAUSE if has_more else await self._seconds_to_wait()
            except DatabaseError as error:
                log.warning("maintenance_delayed", reason=error.reason)
                seconds = FIRST_PAUSE.total_seconds()
            except Exception as error:  # a bug in one round must not end the later rounds
                log.critical("unhandled_exception", exc_info=error)
                seconds = FIRST_PAUSE.total_seconds()
            # Jitter keeps processes out of step. A parked event ends the pause early.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds * random.uniform(1, 1.25)):  # noqa: S311  no secret
                    await self._wake.wait()
                    await asyncio.sleep(MIN_PAUSE)

    async def _seconds_to_wait(self) -> float:
        can_refetch = bool(self._refresher and self._refresher.can_refresh)
        async with self._applier.store.database.acquire() as connection:
            seconds = await seconds_until_due(connection, can_refetch=can_refetch)
        return MAX_PAUSE if seconds is None else min(max(seconds, MIN_PAUSE), MAX_PAUSE)

    async def run_once(self) -> Counter[str]:
        """Do the work that is due; return the number of events by outcome.

        The counts also include users `refetched`, emails `restored` and rows `pruned`. Raises `DatabaseError`.
        """
        store = self._applier.store
        async with store.database.acquire() as connection:
            due = await claim_due(connection, MAX_CLAIMED)
        counts = Counter(outcome.outcome for outcome in await self._applier.apply_again(due))
        if due:
            log.info("retry_finished", **counts)
        counts["refetched"] = await self._refresher.refetch_pending() if self._refresher else 0
        counts["restored"] = await restore_emails(store)
        async with store.database.acquire() as connection:
            counts["pruned"] = await prune(connection, self._retention, PRUNE_BATCH_SIZE)
        return +counts
