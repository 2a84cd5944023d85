"""One run of `reconcile`: the connections and the lock."""

import argparse
import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable

import httpx2

from sync_service.clerk.client import ClerkClient
from sync_service.clerk.limited_client import LimitedClient
from sync_service.clerk.list_requests import LIST_TIMEOUT, create_limiter
from sync_service.clerk.user_list import UserList
from sync_service.cli.database import open_connection, require_dsn
from sync_service.cli.reconcile_progress import show_progress
from sync_service.errors import SchemaError, SyncError
from sync_service.postgres.migrate import read_schema_state
from sync_service.postgres.pool import open_database
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.store.audit import COMMAND
from sync_service.store.reconciles import hold_run_lock
from sync_service.sync.apply import Applier
from sync_service.sync.drift_report import Report
from sync_service.sync.reconcile import Reconciler


def reconcile(settings: Settings, arguments: argparse.Namespace) -> Report:
    """Make the run that the arguments describe. Raises `SyncError` if it cannot begin."""
    with asyncio.Runner(loop_factory=_find_loop_factory()) as runner:
        return runner.run(_reconcile(settings, arguments))


def _find_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's event loop, which takes a tenth off the time of an import; None where there is no uvloop."""
    if os.name != "posix":
        return None
    import uvloop  # noqa: PLC0415  not on Windows

    return uvloop.new_event_loop


async def _reconcile(settings: Settings, arguments: argparse.Namespace) -> Report:
    database = await open_database(require_dsn(settings))
    async with (
        contextlib.aclosing(database),
        _hold_lock(settings, needed=not arguments.dry_run),
        LimitedClient() as client,
    ):
        users = None if arguments.from_inbox else _create_list(settings, client)
        # The total has a list of its own, so that its failures do not count as failures of the run.
        total = None if users is None or arguments.recent else _create_list(settings, client).count
        with show_progress(total) as show:
            reconciler = Reconciler(
                Applier(Store(database, settings.mapping), max_attempts=settings.sync_max_attempts),
                users,
                instance_id=settings.clerk_instance_id,
                dry_run=arguments.dry_run,
                recent=arguments.recent,
                allow_mass_delete=arguments.allow_mass_delete,
                shows_values=arguments.values,
                on_progress=show,
            )
            if not arguments.dry_run:
                await reconciler.begin(COMMAND)
            return await reconciler.run()


def _create_list(settings: Settings, client: httpx2.AsyncClient) -> UserList:
    key = settings.clerk_secret_key
    assert key is not None  # noqa: S101  `load_settings` requires it
    lists = ClerkClient(client, settings.clerk_api_url, key, timeout=LIST_TIMEOUT)
    return UserList(lists, create_limiter(key), needs_raw_json=settings.mapping.needs_raw_json)


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
