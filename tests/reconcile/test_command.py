"""The command: its report, its exit status, and one run at a time."""

import asyncio
import contextlib
import json
import os
import pty
import re
import subprocess
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse

from sync_service.cli import reconcile_progress
from sync_service.store.reconciles import hold_run_lock
from tests.clerk_stub import SECRET_KEY, ClerkStub
from tests.processes import COMMAND
from tests.reconcile.conftest import RunCli, add_users
from tests.world import T0, T1, T2, World, make_event, wait_until

KEYS = [
    *("dry_run", "recent", "users", "missing", "stale", "differing", "deleted"),
    *("repaired", "refused", "failed", "columns", "seconds", "finished"),
]


@pytest.fixture
def command(run_cli: RunCli) -> RunCli:
    """Return a function that runs `reconcile`."""
    return partial(run_cli, "reconcile")


async def test_a_dry_run_reports_drift_and_writes_no_row(
    command: RunCli, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """Its status is 1 while rows differ; names and columns are printed, and no value (G5)."""
    add_users(clerk, 3)
    dry = await command("--dry-run")
    assert dry.returncode == 1
    assert "3 users compared" in dry.stdout
    assert "missing: 3, stale: 0, differing: 0, deleted: 0" in dry.stdout
    assert "  user_00001  missing" in dry.stdout
    assert await db.fetchval("select count(*) from users") == 0
    assert await db.fetchval("select count(*) from clerk_sync.instance") == 0
    done = await command()
    assert done.returncode == 0
    assert "repaired: 3, refused: 0, failed: 0" in done.stdout
    await db.execute("update users set first_name = 'x', banned = not banned")
    await db.execute("update users set first_name = 'Ada PII_SENTINEL' where id = 'user_00001'")
    dry = await command("--dry-run")
    assert "columns that differed: banned 3, first_name 2" in dry.stdout
    assert "  user_00001  differing  banned\n" in dry.stdout


async def test_a_dry_run_prints_values_only_if_they_are_requested(
    command: RunCli, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """Each column has the value of the row and then the value of Clerk. JSON has a line for each of these users."""
    for n in range(3):
        clerk.add_user(f"user_{n}", T1, first_name="Grace", last_name="Hopper")
    assert (await command()).returncode == 0
    await db.execute("update users set first_name = 'old name', updated_at = null where id <> 'user_2'")
    await db.execute("delete from users where id = 'user_0'")
    clerk.users.pop("user_2")
    without = await command("--dry-run")
    assert "old name" not in without.stdout
    assert "Grace" not in without.stdout
    lines = (await command("--dry-run", "--values")).stdout.splitlines()
    time = datetime.fromtimestamp(T1 / 1000, UTC).isoformat()
    assert lines[3:] == [
        "users:",
        "  user_0  missing",
        "  user_1  differing  first_name, updated_at",
        '    first_name: "old name" → "Grace"',
        f'    updated_at: null → "{time}"',
        "  user_2  deleted",
    ]
    missing, differing, deleted, report = (
        json.loads(line) for line in (await command("--dry-run", "--values", "--json")).stdout.splitlines()
    )
    assert missing == {"clerk_id": "user_0", "finding": "missing", "columns": {}}
    assert differing["columns"] == {"first_name": ["old name", "Grace"], "updated_at": [None, time]}
    assert deleted["finding"] == "deleted"
    assert list(report) == KEYS
    refused = await command("--values")
    assert (refused.returncode, "--values belongs to --dry-run" in refused.stderr) == (2, True)


async def test_the_last_line_of_json_is_the_report(command: RunCli, clerk: ClerkStub) -> None:
    add_users(clerk, 3)
    done = await command("--json")
    assert done.returncode == 0
    report = json.loads(done.stdout.splitlines()[-1])
    assert list(report) == KEYS
    assert {name: report[name] for name in ("users", "missing", "repaired", "finished", "columns")} == {
        "users": 3,
        "missing": 3,
        "repaired": 3,
        "finished": True,
        "columns": {},
    }
    assert json.loads((await command("--json", "--dry-run", "--recent")).stdout)["recent"] is True


async def test_the_status_is_1_while_work_is_left(command: RunCli, clerk: ClerkStub) -> None:
    """A refused mass deletion names the option, and a rejected key its variable."""
    add_users(clerk, 12)
    assert (await command()).returncode == 0
    clerk.users.clear()
    refused = await command()
    assert refused.returncode == 1
    assert "--allow-mass-delete" in refused.stderr
    clerk.error_status = 401
    rejected = await command("--json")
    assert rejected.returncode == 1
    assert "CLERK_SECRET_KEY" in rejected.stderr
    assert json.loads(rejected.stdout)["finished"] is False


async def test_a_terminal_shows_a_bar_with_rate_and_remaining_time(
    clerk: ClerkStub, database: str, tmp_path: Path
) -> None:
    """The third page comes once the bar shows the total, which Clerk counts."""
    add_users(clerk, 1300)
    controller, terminal = pty.openpty()
    shown, is_shown = bytearray(), asyncio.Event()

    def read() -> None:
        with contextlib.suppress(OSError):  # the end of the output
            shown.extend(os.read(controller, 65536))
            if re.search(rb"1000/1300.* users/s.*[0-9]:[0-9]{2}:[0-9]{2}", shown):
                is_shown.set()

    async def answer(_: Request) -> None:
        if clerk.list_calls == 3:
            await asyncio.wait_for(is_shown.wait(), 60)

    clerk.answer_list = answer
    asyncio.get_running_loop().add_reader(controller, read)
    environment = {"DATABASE_URL": database, "CLERK_SECRET_KEY": SECRET_KEY, "CLERK_API_URL": clerk.url}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "100", "LOG_FORMAT": "json"}
    process = await asyncio.create_subprocess_exec(
        COMMAND, "reconcile", "--json", cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=terminal
    )
    os.close(terminal)
    stdout, _ = await process.communicate()
    asyncio.get_running_loop().remove_reader(controller)
    os.close(controller)
    assert (process.returncode, json.loads(stdout)["users"]) == (0, 1300)
    assert b"Traceback" not in shown


async def test_other_output_gets_log_lines_about_the_progress(
    command: RunCli, clerk: ClerkStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_progress, "LOG_INTERVAL", 0)
    add_users(clerk, 1300)
    lines = [json.loads(line) for line in (await command("--json")).stderr.splitlines()]
    progress = [(line["users"], line["repaired"]) for line in lines if line["event"] == "reconciling"]
    assert progress == [(500, 500), (1000, 1000), (1300, 1300), (1300, 1300)]
    assert lines[-1]["users_per_second"] > 0
    assert lines[-1]["total"] in {None, 1300}


async def test_one_process_at_a_time_runs(command: RunCli, clerk: ClerkStub, db: asyncpg.Connection) -> None:
    """A dry run needs no lock."""
    async with hold_run_lock(db) as is_held:
        assert is_held
        second = await command()
        assert second.returncode == 1
        assert "Another reconcile is running" in second.stderr
        assert clerk.requests == []
        assert (await command("--dry-run")).returncode == 0
    assert (await command()).returncode == 0


async def test_a_killed_run_is_continued_by_the_next_one(
    command: RunCli, clerk: ClerkStub, db: asyncpg.Connection, database: str, tmp_path: Path
) -> None:
    """The process is killed while it waits for the third page; its lock ends with it (G2)."""
    add_users(clerk, 1300)
    clerk.answer_list = lambda _: JSONResponse({}, 429, {"Retry-After": "60"}) if clerk.list_calls == 3 else None
    environment = {"DATABASE_URL": database, "CLERK_SECRET_KEY": SECRET_KEY, "CLERK_API_URL": clerk.url}
    process = await asyncio.create_subprocess_exec(COMMAND, "reconcile", cwd=tmp_path, env=environment)
    await wait_until(lambda: db.fetchval("select checkpoint is not null from clerk_sync.reconciles where users = 1000"))
    process.kill()
    await process.wait()
    assert await db.fetchval("select finished_at is null from clerk_sync.reconciles")
    since: list[str | None] = []
    clerk.answer_list = lambda request: since.append(request.query_params.get("created_at_after"))
    # PostgreSQL notices the end of the connection a moment later.
    locks = "select count(*) = 0 from pg_locks join pg_database as d on d.oid = database where locktype = 'advisory'"
    await wait_until(lambda: db.fetchval(f"{locks} and datname = current_database()"))
    assert json.loads((await command("--json")).stdout)["missing"] == 300
    assert int(since[0] or 0) > T0 + 300
    assert await db.fetchval("select count(*) from users") == 1300
    errors = await db.fetch("select error from clerk_sync.reconciles order by id")
    assert [error["error"] for error in errors] == ["interrupted", None]


async def test_a_missing_setting_or_schema_is_named(
    command: RunCli, empty_database: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    without_key = await command(CLERK_SECRET_KEY="")
    assert without_key.returncode == 2
    assert "CLERK_SECRET_KEY: not set" in without_key.stderr
    without_schema = await command(DATABASE_URL=empty_database)
    assert without_schema.returncode == 1
    assert "sync-service migrate" in without_schema.stderr


async def test_the_inbox_restores_the_table_without_clerk(
    command: RunCli, world: World, db: asyncpg.Connection, clerk: ClerkStub
) -> None:
    """The newest state of each user wins, a changed row is written again, and a deleted user's row goes."""
    for n in range(4):
        await world.deliver_ok(make_event("user.updated", f"user_{n}", T2, first_name="newest"))
        await world.deliver_ok(make_event("user.created", f"user_{n}", T1, first_name="older"))
    await db.execute("create table backup as table users")
    await world.deliver_ok(make_event("user.deleted", "user_3"))
    await db.execute("truncate users")
    await db.execute("insert into users select * from backup where id in ('user_0', 'user_3')")
    await db.execute("update users set first_name = 'x' where id = 'user_0'")
    without_key = {"CLERK_SECRET_KEY": ""}
    dry = json.loads((await command("--from-inbox", "--dry-run", "--json", **without_key)).stdout)
    assert [dry[kind] for kind in ("missing", "stale", "differing", "deleted", "repaired")] == [2, 0, 1, 1, 0]
    assert (await command("--from-inbox", **without_key)).returncode == 0
    rows = await db.fetch("select id, first_name from users order by id")
    assert [tuple(row) for row in rows] == [(f"user_{n}", "newest") for n in range(3)]
    assert (await command("--from-inbox", "--dry-run", **without_key)).returncode == 0
    assert clerk.requests == []
    assert (await command("--from-inbox", "--recent")).returncode == 2
    assert await db.fetchval("select mode from clerk_sync.reconciles") == "inbox"
