"""The progress of a reconcile: a bar with rate and remaining time on a terminal, log lines elsewhere."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from sync_service.clerk.entities import USER
from sync_service.errors import ClerkUnavailable
from sync_service.sync.drift_report import Report

log = structlog.get_logger()

# Seconds between two log lines.
LOG_INTERVAL = 5.0

CountUsers = Callable[[], Awaitable[int | None]]


class _RateColumn(ProgressColumn):
    """Objects per second. Rich has no rate before the second page."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f} {task.description}/s")


class _Display:
    """Shows reports. The total is requested with the first one to show, and a run never waits for it."""

    def __init__(self, bar: Progress, count_users: CountUsers | None) -> None:
        self._bar = bar
        self._count_users = count_users
        self._bar_task = bar.add_task(USER.section, total=None)
        self._total: int | None = None
        self._counting: asyncio.Task[None] | None = None
        self._began = time.monotonic()
        self._next_line = self._began + LOG_INTERVAL

    def show(self, report: Report) -> None:
        """Show the counts so far."""
        self._show_bar(report)
        now = time.monotonic()
        if self._bar.disable and now < self._next_line:
            return
        if self._counting is None and self._count_users:
            self._counting = asyncio.create_task(self._find_total(self._count_users))
        if self._bar.disable:
            self._next_line = now + LOG_INTERVAL
            rate = round(report.users / (now - self._began))
            counts = {"users": report.users, "total": self._total, "users_per_second": rate}
            log.info("reconciling", **counts, **report.related, drift=report.drift, repaired=report.repaired)

    def _show_bar(self, report: Report) -> None:
        """Show the objects that are compared now. The total of the users is the only one that is known."""
        section, count = [(USER.section, report.users), *report.related.items()][-1]
        total = count if report.related else None
        self._bar.update(self._bar_task, description=section, completed=count, total=total)

    async def _find_total(self, count_users: CountUsers) -> None:
        with contextlib.suppress(ClerkUnavailable):
            self._total = await count_users()
            self._bar.update(self._bar_task, total=self._total)

    def close(self) -> None:
        """Cancel the request for the total."""
        if self._counting:
            self._counting.cancel()


@contextlib.contextmanager
def show_progress(count_users: CountUsers | None) -> Iterator[Callable[[Report], None]]:
    """Yield a function that shows the progress. `count_users` returns the total; without it no time remains known."""
    console = Console(stderr=True)
    columns = (
        TextColumn("reconciling {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        display = _Display(bar, count_users)
        try:
            yield display.show
        finally:
            display.close()
