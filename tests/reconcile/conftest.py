"""Runs of the reconcile against a stub of Clerk and a real table."""

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sync_service.clerk.client import ClerkClient
from sync_service.clerk.list_requests import GIVE_UP_AFTER, LIST_TIMEOUT
from sync_service.clerk.rate_limit import RateLimiter
from sync_service.clerk.user_list import UserList
from sync_service.mapping.table import TableMapping
from sync_service.postgres.pool import Database, open_database
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from sync_service.sync.drift_report import Report
from sync_service.sync.reconcile import Reconciler
from sync_service.sync.reconcile_schedule import ReconcileSchedule
from tests.clerk_stub import SECRET_KEY, ClerkStub
from tests.processes import run_here
from tests.world import T0, T1, make_email_fields

RunCli = Callable[..., Awaitable["subprocess.CompletedProcess[str]"]]
Reconcile = Callable[..., Coroutine[None, None, Report]]


def add_users(clerk: ClerkStub, count: int) -> None:
    """Add so many users, three in each millisecond; some are banned, and some have no email."""
    for n in range(count):
        email = {} if n % 33 == 0 else make_email_fields(f"u{n}")
        clerk.add_user(f"user_{n:05}", T1, created_at=T0 + n // 3, banned=n % 100 == 0, **email)


class Clock:
    """A clock that moves only while the code sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def read(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


CreateReconciler = Callable[..., Reconciler]
CreateSchedule = Callable[..., ReconcileSchedule]


@pytest.fixture
async def database_of_runs(settings: Settings) -> AsyncIterator[Database]:
    """Open the connections of the runs."""
    assert settings.database
    async with contextlib.aclosing(await open_database(settings.database)) as database:
        yield database


@pytest.fixture
async def create_reconciler(
    settings: Settings, clerk: ClerkStub, database_of_runs: Database
) -> AsyncIterator[CreateReconciler]:
    """Return a function that returns a run with some options changed."""
    async with httpx2.AsyncClient() as http:

        def create(
            *,
            give_up_after: float = GIVE_UP_AFTER,
            clock: Clock | None = None,
            timeout: float = LIST_TIMEOUT,
            mapping: TableMapping = settings.mapping,
            **options: Any,
        ) -> Reconciler:
            limiter = RateLimiter(max_requests=1000, max_requests_per_user=1000)
            read, sleep = (clock.read, clock.sleep) if clock else (time.monotonic, asyncio.sleep)
            client = ClerkClient(http, clerk.url, SECRET_KEY, clock=read, timeout=timeout)
            users = UserList(
                client,
                limiter,
                needs_raw_json=mapping.needs_raw_json,
                give_up_after=give_up_after,
                clock=read,
                sleep=sleep,
            )
            return Reconciler(Applier(Store(database_of_runs, mapping)), users, **options)

        yield create


@pytest.fixture
def reconcile(create_reconciler: CreateReconciler) -> Reconcile:
    """Return a function that makes one run, with some options changed."""
    return lambda **options: create_reconciler(**options).run()


@pytest.fixture
def create_schedule(settings: Settings, create_reconciler: CreateReconciler) -> CreateSchedule:
    """Return a function that returns the schedule of one process."""
    dsn = settings.database
    assert dsn
    return lambda **options: ReconcileSchedule(dsn, lambda recent: create_reconciler(recent=recent), **options)


@pytest.fixture
def run_cli(database: str, clerk: ClerkStub, tmp_path: Path) -> RunCli:
    """Return a function that runs a command in a thread, while this loop serves the stub."""
    environment = {"DATABASE_URL": database, "CLERK_SECRET_KEY": SECRET_KEY, "CLERK_API_URL": clerk.url}
    return partial(asyncio.to_thread, run_here, cwd=tmp_path, **environment)
