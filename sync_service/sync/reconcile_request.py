"""Starts a run of the reconcile for an operator. It continues in the background, and its report is in the database."""

import asyncio
from collections.abc import Callable

import structlog

from sync_service.dsn import Dsn
from sync_service.errors import DatabaseError
from sync_service.operator_errors import ReconcileRunning
from sync_service.store.reconciles import Run, hold_run_lock, open_run_connection
from sync_service.sync.reconcile import Reconciler
from sync_service.sync.reconcile_schedule import log_report

log = structlog.get_logger()


class ReconcileStarter:
    """The runs that operators have started in this process."""

    def __init__(self, dsn: Dsn, create: Callable[[bool, bool], Reconciler]) -> None:
        """Use `create` for a new run: of the recent changes if its first argument is true, dry if its second is."""
        self._dsn = dsn
        self._create = create
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, who: str, *, recent: bool, dry_run: bool) -> int:
        """Start a run; return its ID as soon as it is recorded. Raises `ReconcileRunning` or `DatabaseError`."""
        begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        reconciler = self._create(recent, dry_run)
        task = asyncio.create_task(self._run(reconciler, who, begun))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await begun

    async def close(self) -> None:
        """Cancel the runs; the next one continues them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, reconciler: Reconciler, who: str, begun: asyncio.Future[int]) -> None:
        try:
            async with open_run_connection(self._dsn) as connection, hold_run_lock(connection) as is_held:
                begun_run = await _begin(reconciler, who, is_held=is_held)
                if not begun.done():  # the caller's time may be over
                    begun.set_result(begun_run.id)
                log_report(await reconciler.run())
        except Exception as error:  # the caller gets it, or the log: the error of a task would be lost
            if not begun.done():
                begun.set_exception(error)
            elif isinstance(error, DatabaseError):
                log.warning("reconcile_delayed", reason=error.reason)
            else:
                log.critical("unhandled_exception", exc_info=error)


async def _begin(reconciler: Reconciler, who: str, *, is_held: bool) -> Run:
    if not is_held:
        raise ReconcileRunning("Another reconcile is running. GET /ops/reconcile shows it.")
    return await reconciler.begin(who)
