"""Reconciles that an operator starts, and the list of runs."""

from datetime import datetime
from typing import Any

import asyncpg

from sync_service.postgres.pool import open_database
from sync_service.settings import Settings
from sync_service.store.reconciles import RUN_COUNTS, begin_run, find_watermark, finish_run, read_run_ages
from tests.clerk_stub import ClerkStub
from tests.conftest import Output
from tests.ops.conftest import OpsWorld, ServeOps
from tests.problems import read_problem_code
from tests.sync_requests import build_settings
from tests.world import T1, wait_until


async def read_finished_run(ops: OpsWorld) -> dict[str, Any]:
    """Return the newest run after its end."""
    await wait_until(lambda: ops.db.fetchval("select bool_and(finished_at is not null) from clerk_sync.reconciles"))
    run: dict[str, Any] = (await ops.read("/ops/reconcile"))["runs"][0]
    return run


async def test_a_dry_run_and_a_run_have_reports(ops_with_clerk: OpsWorld, clerk: ClerkStub) -> None:
    """A dry run writes no row of the app, and the run that follows repairs what it reported."""
    ops = ops_with_clerk
    assert await ops.read("/ops/reconcile") == {"runs": []}
    for number in range(3):
        clerk.add_user(f"user_{number}", T1)
    started = await ops.act("/ops/reconcile", 202, json={"dry_run": True})
    assert (started["dry_run"], started["recent"], started["mode"]) == (True, False, "full")
    dry = await read_finished_run(ops)
    assert (dry["id"], dry["missing"], dry["drift"], dry["repaired"]) == (started["id"], 3, 3, 0)
    assert await ops.get_users() == []
    await ops.act("/ops/reconcile", 202, json={"dry_run": False, "recent": False})
    run = await read_finished_run(ops)
    assert (run["missing"], run["repaired"], run["finished"], run["error"]) == (3, 3, True, None)
    assert datetime.fromisoformat(run["started_at"]) <= datetime.fromisoformat(run["finished_at"])
    assert len(await ops.get_users()) == 3
    await ops.act("/ops/reconcile", 202, json={"recent": True})
    assert (await read_finished_run(ops))["mode"] == "recent"
    assert await ops.read_audit() == [
        ("api", "reconcile", "mode=recent dry_run=false"),
        ("api", "reconcile", "mode=full dry_run=false"),
        ("api", "reconcile", "mode=full dry_run=true"),
    ]


async def test_a_dry_run_is_no_run_for_the_schedule(db: asyncpg.Connection, settings: Settings) -> None:
    """Neither for the time of the next run, nor for the place to continue from, nor for the recent changes."""
    assert settings.database
    database = await open_database(settings.database)
    counts: dict[str, Any] = dict.fromkeys(("pages", "users", *RUN_COUNTS), 0) | {"columns": {}}
    interrupted = await begin_run(database, "full")
    await finish_run(database, interrupted, counts, 7, "Clerk cannot be asked")
    dry = await begin_run(database, "full", dry_run=True)
    assert dry.checkpoint is None
    await finish_run(database, dry, counts, None, None)
    assert await find_watermark(database) is None
    complete, latest = await read_run_ages(db, "full")
    assert (complete, latest is None) == (None, False)
    assert (await begin_run(database, "full")).checkpoint == 7
    await database.aclose()


async def test_only_one_run_is_made_at_a_time(ops_with_clerk: OpsWorld, clerk: ClerkStub) -> None:
    ops = ops_with_clerk
    with clerk.hold():
        started = await ops.act("/ops/reconcile", 202)
        response = await ops.ops("POST", "/ops/reconcile")
        assert (response.status_code, read_problem_code(response)) == (409, "reconcile_running")
        [run] = (await ops.read("/ops/reconcile"))["runs"]
        assert (run["id"], run["finished_at"], run["finished"]) == (started["id"], None, False)
    assert (await read_finished_run(ops))["finished"]
    assert len(await ops.read_audit()) == 1


async def test_a_run_that_cannot_ask_clerk_is_reported(ops_with_clerk: OpsWorld, clerk: ClerkStub) -> None:
    clerk.kids = {}
    await ops_with_clerk.act("/ops/reconcile", 202)
    run = await read_finished_run(ops_with_clerk)
    assert "CLERK_SECRET_KEY" in run["error"]
    assert run["finished"] is False


async def test_a_run_ends_with_the_service(
    serve_ops: ServeOps, db: asyncpg.Connection, clerk: ClerkStub, output: Output
) -> None:
    with clerk.hold():
        async with serve_ops(**build_settings(clerk)) as ops:
            await ops.act("/ops/reconcile", 202)
            await wait_until(lambda: clerk.open_calls)
        assert await db.fetchval("select finished_at is null from clerk_sync.reconciles")
    assert not output.log("unhandled_exception")


async def test_an_unclear_run_is_not_started(ops_with_clerk: OpsWorld) -> None:
    for body in ("[]", "null", '{"dry_run": 1}', '{"recent": "no"}', '{"allow_mass_delete": true}', "{"):
        response = await ops_with_clerk.ops("POST", "/ops/reconcile", content=body)
        assert (response.status_code, read_problem_code(response)) == (400, "bad_request"), body
    assert await ops_with_clerk.read("/ops/reconcile") == {"runs": []}


async def test_a_run_without_a_key_names_the_setting(ops: OpsWorld) -> None:
    response = await ops.ops("POST", "/ops/reconcile", json={"dry_run": True})
    assert (response.status_code, read_problem_code(response)) == (503, "clerk_unavailable")
    assert "CLERK_SECRET_KEY" in response.json()["detail"]
