"""Runs the reconcile in `serve` at its intervals. The database decides which process runs it, and when it is due."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import structlog

from sync_service.dsn import Dsn
from sync_service.errors import DatabaseError
from sync_service.store.reconciles import hold_run_lock, open_run_connection, read_run_ages
from sync_service.sync.drift_report import Report
from sync_service.sync.reconcile import Reconciler

log = structlog.get_logger()

# Seconds after the start of a process. Logins and webhooks that waited for it come first.
START_PAUSE = 60.0
# Seconds until an incomplete run is repeated.
RETRY_PAUSE = 900.0

FULL, RECENT = "full", "recent"


def compute_pause(interval: float, complete_age: float | None, latest_age: float | None) -> float:
    """Return the seconds until a run is due; 0 means now (pure). The ages are those of `read_run_ages`."""
    after_complete = 0.0 if complete_age is None else interval - complete_age
    after_latest = 0.0 if latest_age is None else min(interval, RETRY_PAUSE) - latest_age
    return max(after_complete, after_latest, 0.0)


@dataclass(frozen=True, slots=True)
class ReconcileSchedule:
    """The schedule of one process. `create` returns a new run, of the recent changes if its argument is true.

    Between two runs the database is not queried, so that one that sleeps while idle stays asleep.
    """

    dsn: Dsn
    create: Callable[[bool], Reconciler]
    every: timedelta
    recent_every: timedelta

    @property
    def _intervals(self) -> dict[str, float]:
        # A full run comes first, because it also counts as a recent one.
        intervals = {FULL: self.every.total_seconds(), RECENT: self.recent_every.total_seconds()}
        return {mode: seconds for mode, seconds in intervals.items() if seconds}

    async def run(self) -> None:
        """Work until cancelled; an error is logged, and the next round follows."""
        if not self._intervals:
            return
        seconds = min(START_PAUSE, *self._intervals.values())
        while True:
            await asyncio.sleep(seconds)
            try:
                seconds = await self.run_due()
            except DatabaseError as error:
                log.warning("reconcile_delayed", reason=error.reason)
                seconds = START_PAUSE
            except Exception as error:  # a bug in one run must not end the schedule
                log.critical("unhandled_exception", exc_info=error)
                seconds = RETRY_PAUSE

    async def run_due(self) -> float:
        """Make the runs that are due, unless another process does; return the seconds until the next one.

        Raises `DatabaseError`.
        """
        async with open_run_connection(self.dsn) as connection:
            async with hold_run_lock(connection) as is_held:
                if is_held:
                    for mode, interval in self._intervals.items():
                        await self._run_if_due(connection, mode, interval)
            pauses = [
                compute_pause(interval, *await read_run_ages(connection, mode))
                for mode, interval in self._intervals.items()
            ]
        return max(min(pauses), 1.0)

    async def _run_if_due(self, connection: asyncpg.Connection, mode: str, interval: float) -> None:
        if compute_pause(interval, *await read_run_ages(connection, mode)):
            return
        report = await self.create(mode == RECENT).run()
        log_report(report)


def log_report(report: Report) -> None:
    """Log the report of a run that no command prints."""
    counts = report.to_json() | {"error": report.error}
    (log.info if report.is_clean else log.warning)("reconciled", **counts)
