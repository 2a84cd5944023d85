"""`delete_grace`: a deletion is deferred, so that an operator can undo a mistaken one."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from sync_service.mapping.presets import DEFAULT
from tests.conftest import Serve
from tests.processes import run_command, run_here
from tests.world import T1, T2, T3, make_email_fields, make_event, wait_until

pytestmark = pytest.mark.every_postgres

LONG = replace(DEFAULT, deleted_at="deleted_at", delete_grace=timedelta(days=7))
SHORT = replace(LONG, delete_grace=timedelta(seconds=1))

SYNC_TOML = """
[users]
preset = "text_id"
deleted_at = "deleted_at"
delete_grace = "7d"
"""


@pytest.fixture
async def with_deleted_at(db: asyncpg.Connection) -> None:
    """Add a column for the time of the deletion."""
    await db.execute("alter table public.users add column deleted_at timestamptz")


@pytest.mark.usefixtures("with_deleted_at")
async def test_the_row_is_marked_as_deleted_and_removed_after_the_grace_period(serve: Serve) -> None:
    """Until then the row has `deleted_at` and ignores updates; afterwards no payload remains (K5)."""
    async with serve(mapping=SHORT) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1))
        response = await world.deliver(make_event("user.deleted", "user_1"), "msg_gone")
        assert (response.status_code, response.json()) == (202, {"outcome": "parked", "reason": "delete_grace"})
        row = await world.get_user("user_1")
        assert row
        assert row["deleted_at"]
        assert await world.deliver_ok(make_event("user.updated", "user_1", T3)) == "stale"
        await wait_until(lambda: _is_table_empty(world.db))
        stored = await world.get_event("msg_gone")
        assert stored
        assert stored["status"] == "applied"
        assert await world.db.fetchval("select count(*) from clerk_sync.events where payload is not null") == 0


async def _is_table_empty(db: asyncpg.Connection) -> bool:
    return not await db.fetchval("select exists (select from public.users)")


@pytest.mark.usefixtures("with_deleted_at")
async def test_a_second_deletion_event_does_not_extend_the_grace_period(serve: Serve, db: asyncpg.Connection) -> None:
    """Further deliveries neither extend the period nor use up the event's attempts (K5)."""
    async with serve(mapping=LONG, sync_max_attempts=2) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1))
        for message_id in ("msg_1", "msg_1", "msg_2", "msg_1"):
            assert await world.deliver_ok(make_event("user.deleted", "user_1"), message_id) == "parked"
        due = await db.fetch(
            "select status, next_attempt_at - deleted_at as wait from clerk_sync.events"
            " join clerk_sync.identities using (clerk_id) where type = 'user.deleted'"
        )
        assert [tuple(row) for row in due] == [("failed", timedelta(days=7))] * 2


@pytest.mark.usefixtures("with_deleted_at")
async def test_a_new_user_gets_the_email_of_a_user_with_a_deferred_deletion(serve: Serve) -> None:
    """The email is free during the grace period, too (D1)."""
    async with serve(mapping=LONG) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("x")))
        await world.deliver_ok(make_event("user.deleted", "user_1"))
        assert await world.deliver_ok(make_event("user.created", "user_2", T2, **make_email_fields("x"))) == "applied"
        first, second = await world.get_user("user_1"), await world.get_user("user_2")
        assert first
        assert second
        assert first["email"] is None
        assert second["email"]


@pytest.mark.usefixtures("with_deleted_at")
async def test_a_deletion_that_an_operator_cancels_is_not_repeated(serve: Serve, database: str, tmp_path: Path) -> None:
    """After `users restore` the same message, another deletion event and a replay leave the row active (K5)."""
    (tmp_path / "sync.toml").write_text(SYNC_TOML)
    async with serve(mapping=LONG) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1))
        await world.deliver_ok(make_event("user.deleted", "user_1"), "msg_gone")
        done = run_here("users", "restore", "user_1", cwd=tmp_path, DATABASE_URL=database)
        assert (done.returncode, done.stderr) == (0, "")
        row = await world.get_user("user_1")
        assert row
        assert row["deleted_at"] is None
        assert await world.deliver_ok(make_event("user.deleted", "user_1"), "msg_gone") == "duplicate"
        assert await world.deliver_ok(make_event("user.deleted", "user_1"), "msg_again") == "stale"
        for arguments in (["msg_gone"], ["--type", "user.deleted"]):
            done = run_here("events", "replay", *arguments, cwd=tmp_path, DATABASE_URL=database)
            assert "stale" in done.stdout
        assert await world.get_user("user_1")
        assert await world.deliver_ok(make_event("user.updated", "user_1", T2, first_name="Grace")) == "applied"
        shown = run_here("users", "show", "user_1", cwd=tmp_path, DATABASE_URL=database, QUIET="")
        assert "the deletion was undone" in shown.stdout


async def test_a_completed_deletion_cannot_be_cancelled(serve: Serve, database: str, tmp_path: Path) -> None:
    async with serve() as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1))
        await world.deliver_ok(make_event("user.deleted", "user_1"))
        for user_id in ("user_1", "user_2"):
            done = run_here("users", "restore", user_id, cwd=tmp_path, DATABASE_URL=database)
            assert done.returncode == 1
            assert "no deletion to undo" in done.stderr
        assert await world.deliver_ok(make_event("user.updated", "user_1", T3)) == "stale"


async def test_serve_does_not_start_with_a_mapping_that_cannot_work(database: str, tmp_path: Path) -> None:
    """The error names every object that does not fit the mapping (J5)."""
    (tmp_path / "sync.toml").write_text(
        '[users]\nclerk_id = "id"\n[users.columns]\ne_mail = "primary_email"\nfirst_name = "first_name"'
    )
    done = run_command(
        "serve",
        cwd=tmp_path,
        DATABASE_URL=database,
        CLERK_WEBHOOK_SIGNING_SECRET="whsec_c2VudGluZWwvU0VDUkVUU0VOVElORUwvMDEyMzQ1",
        PORT="0",
    )
    assert done.returncode == 2
    assert "public.users.e_mail: there is no such column; did you mean email?" in done.stderr
