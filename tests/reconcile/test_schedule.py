"""The schedule of `serve`: due runs by the database's clock, in one process at a time."""

from datetime import timedelta

import asyncpg
import pytest

from sync_service.settings import Settings
from sync_service.store.reconciles import hold_run_lock
from sync_service.sync.reconcile_schedule import RETRY_PAUSE, compute_pause
from tests.clerk_stub import ClerkStub
from tests.conftest import Output, Serve
from tests.reconcile.conftest import CreateSchedule, add_users
from tests.sync_requests import build_settings
from tests.world import wait_until

DAY = 86_400.0


@pytest.mark.parametrize(
    ("complete", "latest", "pause"),
    [
        (None, None, 0),
        (DAY + 1, DAY + 1, 0),
        (DAY - 5, DAY - 5, 5),
        (DAY + 1, 10, RETRY_PAUSE - 10),
        (None, RETRY_PAUSE + 1, 0),
    ],
)
def test_a_run_is_due_after_its_interval_and_an_incomplete_one_sooner(
    complete: float | None, latest: float | None, pause: float
) -> None:
    assert compute_pause(DAY, complete, latest) == pause


async def test_a_due_run_is_made_once_and_by_one_process(
    create_schedule: CreateSchedule, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    add_users(clerk, 3)
    schedule = create_schedule(every=timedelta(days=1), recent_every=timedelta(hours=1))
    async with hold_run_lock(db):
        assert await schedule.run_due() == 1
    assert clerk.requests == []
    assert 3000 < await schedule.run_due() <= 3600
    assert await db.fetchval("select count(*) from users") == 3
    assert 3000 < await schedule.run_due() <= 3600
    await db.execute("update clerk_sync.reconciles set started_at = now() - interval '2 hours'")
    await schedule.run_due()
    modes = await db.fetch("select mode from clerk_sync.reconciles order by id")
    assert [run["mode"] for run in modes] == ["full", "recent"]


async def test_serve_repairs_rows_by_itself(
    serve: Serve, clerk: ClerkStub, db: asyncpg.Connection, settings: Settings, output: Output
) -> None:
    """No webhook arrives and no user signs in."""
    add_users(clerk, 3)
    async with serve(**build_settings(clerk, sync_reconcile_every=timedelta(seconds=0.2))):
        await wait_until(lambda: db.fetchval("select count(*) = 3 from users"))
        await wait_until(lambda: output.log("reconciled"))
    assert output.log("reconciled")[0]["missing"] == 3
    assert settings.sync_reconcile_recent_every == timedelta()
