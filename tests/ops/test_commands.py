"""The audit lines of the commands that write."""

import asyncio
from pathlib import Path

import asyncpg

from sync_service.mapping.toml import parse_mapping
from tests.clerk_stub import ClerkStub
from tests.ops.conftest import OpsWorld, ServeOps
from tests.processes import run_here
from tests.sync_requests import build_settings
from tests.world import SECRET, make_event

GRACE = '[users]\ndelete_grace = "1d"\n'


async def test_each_command_that_writes_has_an_audit_line(
    serve_ops: ServeOps, clerk: ClerkStub, db: asyncpg.Connection, database: str, tmp_path: Path
) -> None:
    """Commands that only show have none, nor has a dry run."""
    text = 'preset = "text_id"\n' + GRACE
    (tmp_path / "sync.toml").write_text(text)
    settings = build_settings(clerk)
    environ = {
        "DATABASE_URL": database,
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
        "CLERK_SECRET_KEY": settings["clerk_secret_key"],
        "CLERK_API_URL": clerk.url,
    }

    async def run(*arguments: str, status: int = 0) -> None:
        # In a thread, while this loop serves the stub; quiet, because two commands show personal data.
        done = await asyncio.to_thread(run_here, *arguments, cwd=tmp_path, QUIET="1", **environ)
        assert done.returncode == status, done.stderr

    async with serve_ops(mapping=parse_mapping(text)) as ops:
        await prepare(ops, clerk)
        await run("events", "list")
        await run("events", "show", "msg_1")
        await run("events", "replay", "msg_1", "--dry-run")
        await run("events", "replay", "msg_1", "msg_2", "msg_1", "msg_unknown", status=1)
        await run("events", "replay", "--status", "applied", "--type", "user.created")
        await run("events", "replay", "--user", "ada@example.com")
        await run("users", "show", "user_1")
        await run("users", "restore", "user_2")
        await run("users", "restore", "user_2", status=1)
        await run("users", "refresh", "user_1")
        await run("reconcile", "--dry-run", status=1)
        await run("reconcile", "--from-inbox")
        await run("migrate")
        audit = await ops.read_audit()
    assert audit[::-1] == [
        ("command", "replay", "msg_1"),
        ("command", "replay", "msg_2"),
        ("command", "replay", "status=applied type=user.created"),
        ("command", "replay", "clerk_id=(hidden)"),
        ("command", "restore", "user_2"),
        ("command", "refresh", "user_1"),
        ("command", "reconcile", "mode=inbox dry_run=false"),
    ]
    assert await db.fetchval("select count(*) from clerk_sync.reconciles") == 1


async def prepare(ops: OpsWorld, clerk: ClerkStub) -> None:
    """Create three users, the second with a deferred deletion and the third only in Clerk."""
    clerk.add_user("user_1")
    clerk.add_user("user_3")
    await ops.deliver_ok(make_event("user.created", "user_1"), "msg_1")
    await ops.deliver_ok(make_event("user.created", "user_2"), "msg_2")
    await ops.deliver_ok(make_event("user.deleted", "user_2"), "msg_3")
