"""Tells the user of a command that the command waits for a lock, and for which one."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import asyncpg

from sync_service.cli.database import open_connection
from sync_service.errors import SyncError
from sync_service.postgres.lock_waits import LockWait, read_lock_wait
from sync_service.settings import Settings

# Seconds between two looks. A shorter wait is not worth a message.
INTERVAL = 1


@contextlib.asynccontextmanager
async def report_lock_waits(settings: Settings, connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Within the block, print each lock that `connection` waits for on standard error."""
    watcher = asyncio.create_task(_watch(settings, connection.get_server_pid()))
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.wait([watcher])


async def _watch(settings: Settings, pid: int) -> None:
    printed: set[LockWait] = set()
    await asyncio.sleep(INTERVAL)
    # Without a second connection the command works all the same.
    with contextlib.suppress(SyncError):
        async with open_connection(settings) as connection:
            while True:
                wait = await read_lock_wait(connection, pid)
                if wait and wait not in printed:
                    printed.add(wait)
                    print(_format_wait(wait), file=sys.stderr, flush=True)
                await asyncio.sleep(INTERVAL)


def _format_wait(wait: LockWait) -> str:
    details = ", ".join(filter(None, [wait.holder_application, wait.holder_state]))
    holder = f"PostgreSQL's process {wait.holder_pid}{f' ({details})' if details else ''}"
    if wait.is_advisory:
        return f"Waiting for another `sync-service migrate` to finish: {holder}."
    return (
        f"Waiting for a lock on {wait.table or 'an object of the database'}, which {holder} holds."
        f" `select pg_terminate_backend({wait.holder_pid})` would end that process."
    )
