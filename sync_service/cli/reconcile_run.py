"""One run of `reconcile`: the connections, the lock and the progress."""

import argparse
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator

import httpx2
import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sync_service.clerk.client import ClerkClient
from sync_service.clerk.user_list import LIST_TIMEOUT, UserList, create_limiter
from sync_service.cli.database import open_connection, require_dsn
from sync_service.errors import ClerkUnavailable, SchemaError, SyncError
from sync_service.postgres.migrate import read_schema_state
from sync_service.postgres.pool import open_database
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.store.reconciles import hold_run_lock
from sync_service.sync.apply import Applier
from sync_service.sync.drift_report import Report
from sync_service.sync.reconcile import Reconciler

log = structlog.get_logger()

# Seconds between two log lines about the progress.
LOG_INTERVAL = 5.0


async def reconcile(settings: Settings, arguments: argparse.Namespace) -> Report:
    """Make the run that the arguments describe. Raises `SyncError` if it cannot begin."""
    database = await open_database(require_dsn(settings))
    async with (
        contextlib.aclosing(database),
        _hold_lock(settings, needed=not arguments.dry_run),
        httpx2.AsyncClient() as client,
    ):
        users = None if arguments.from_inbox else _create_list(settings, client)
        with _show_progress(await _count_users(users)) as show:
            reconciler = Reconciler(
                Applier(Store(database, settings.mapping), max_attempts=settings.sync_max_attempts),
                users,
                instance_id=settings.clerk_instance_id,
                dry_run=arguments.dry_run,
                recent=arguments.recent,
                allow_mass_delete=arguments.allow_mass_delete,
                on_progress=show,
            )
            return await reconciler.run()


def _create_list(settings: Settings, client: httpx2.AsyncClient) -> UserList:
    key = settings.clerk_secret_key
    assert key is not None  # noqa: S101  `load_settings` requires it
    return UserList(ClerkClient(client, settings.clerk_api_url, key, timeout=LIST_TIMEOUT), create_limiter(key))


@contextlib.asynccontextmanager
async def _hold_lock(settings: Settings, *, needed: bool) -> AsyncIterator[None]:
    async with open_connection(settings) as connection:
        state = await read_schema_state(connection)
        if not state.is_ready:
            raise SchemaError(str(state))
        if not needed:
            yield
            return
        async with hold_run_lock(connection) as is_held:
            if not is_held:
                raise SyncError("Another reconcile is running. Wait for its end, or stop it; then start this command.")
            yield


async def _count_users(users: UserList | None) -> int | None:
    """Return the number of users for the progress bar, or None. Without a terminal there is no bar."""
    if users is None or not sys.stderr.isatty():
        return None
    with contextlib.suppress(ClerkUnavailable):
        return await users.count()
    return None


@contextlib.contextmanager
def _show_progress(total: int | None) -> Iterator[Callable[[Report], None]]:
    """Yield a function that shows the progress: as a bar on a terminal, as log lines elsewhere."""
    console = Console(stderr=True)
    next_line = time.monotonic() + LOG_INTERVAL
    columns = (
        TextColumn("reconciling"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.speed:.0f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total)

        def show(report: Report) -> None:
            nonlocal next_line
            progress.update(bar, completed=report.users)
            if not console.is_terminal and time.monotonic() >= next_line:
                next_line = time.monotonic() + LOG_INTERVAL
                log.info("reconciling", users=report.users, drift=report.drift, repaired=report.repaired)

        yield show
