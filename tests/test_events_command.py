"""The commands `events list`, `events show` and `events replay`."""

import json
import random
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sync_service.store.remedies import find_remedy
from tests.processes import run_here
from tests.world import SECRET, T1, T2, World, make_email_fields, make_event, make_message_id


@pytest.fixture
def environment(tmp_path: Path, database: str) -> dict[str, Any]:
    """The working directory and the environment of the commands."""
    return {"cwd": tmp_path, "DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}


async def refuse_all_users(db: asyncpg.Connection) -> None:
    await db.execute("alter table users add constraint refuses check (first_name = '') not valid")


async def test_a_list_is_filtered_and_contains_no_payload(world: World, environment: dict[str, Any]) -> None:
    await world.deliver_ok(make_event("user.created", "user_1", T2))
    await world.deliver_ok(make_event("user.updated", "user_1", T1))
    await world.deliver_ok(make_event("session.created", "user_1"))
    everything = json.loads(run_here("events", "list", "--json", **environment).stdout)["events"]
    assert [line["type"] for line in everything] == ["session.created", "user.updated", "user.created"]
    assert all("payload" not in line for line in everything)
    for arguments, number in (
        (["--status", "stale"], 1),
        (["--type", "user.created"], 1),
        (["--user", "user_1"], 2),
        (["--since", "1h"], 3),
        (["--until", "1h"], 0),
        (["--since", "2020-01-01", "--limit", "2"], 2),
        (["--since", "2020-01-01T10:00+02:00", "--status", "applied"], 1),
    ):
        assert len(run_here("events", "list", *arguments, **environment).stdout.splitlines()) == number, arguments
    assert run_here("events", "list", "--since", "yesterday", **environment).returncode == 2


async def test_dead_events_are_replayed_once_the_table_is_repaired(
    world: World, db: asyncpg.Connection, environment: dict[str, Any]
) -> None:
    """One event that still fails does not stop the others, and a second replay finds no dead event (G8)."""
    await refuse_all_users(db)
    ids = [make_message_id() for _ in range(10)]
    for number, message_id in enumerate(ids):
        assert (await world.deliver(make_event("user.created", f"user_{number}"), message_id)).status_code == 202
    await db.execute("update clerk_sync.events set status = 'dead', next_attempt_at = null")
    await db.execute("alter table users drop constraint refuses")
    await db.execute("alter table users add constraint refuses check (id <> 'user_3')")
    done = run_here("events", "replay", "--status", "dead", "--json", **environment)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"outcomes": {"applied": 9, "parked": 1}, "missing": []}
    poison = await world.get_event(ids[3])
    assert poison
    assert (poison["status"], poison["attempts"]) == ("failed", 2)
    await db.execute("alter table users drop constraint refuses")
    assert run_here("events", "replay", ids[3], **environment).stdout == "applied: 1\n"
    assert await db.fetchval("select min(attempts) from clerk_sync.events") == 2
    again = run_here("events", "replay", "--status", "dead", **environment)
    assert (again.returncode, again.stdout) == (0, "no events to replay\n")


async def test_a_replay_of_an_event_older_than_the_row_is_stale(
    world: World, db: asyncpg.Connection, environment: dict[str, Any]
) -> None:
    """The replayed event is stale and the row unchanged (F9)."""
    await refuse_all_users(db)
    message_id = make_message_id()
    await world.deliver(make_event("user.updated", "user_1", T1), message_id)
    await db.execute("alter table users drop constraint refuses")
    await db.execute("update clerk_sync.events set status = 'dead', next_attempt_at = null")
    await world.deliver_ok(make_event("user.updated", "user_1", T2))
    before = await world.get_users()
    assert run_here("events", "replay", message_id, **environment).stdout == "stale: 1\n"
    assert await world.get_users() == before


async def test_a_dry_run_prints_the_changes_and_writes_no_row(
    world: World, db: asyncpg.Connection, environment: dict[str, Any]
) -> None:
    await world.deliver_ok(
        make_event("user.created", "user_1", T1, first_name="Old", last_name=None, **make_email_fields("e"))
    )
    await db.execute("alter table users add constraint refuses check (first_name <> 'New')")
    changed, deleted = make_message_id(), make_message_id()
    await world.deliver(
        make_event("user.updated", "user_1", T2, first_name="New", last_name=None, **make_email_fields("e")), changed
    )
    await db.execute("alter table users drop constraint refuses")
    await db.execute("create table orders (user_id text references users)")
    await db.execute("insert into orders values ('user_1')")
    before = await db.fetch("select * from clerk_sync.events order by id"), await world.get_users()
    done = run_here("events", "replay", "--status", "failed", "--dry-run", "--json", **environment)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["id"] == changed
    assert lines[0]["changes"]["first_name"] == ["Old", "New"]
    assert set(lines[0]["changes"]) == {"first_name", "updated_at"}
    assert lines[-1]["outcomes"] == {"would change": 1}
    assert (await db.fetch("select * from clerk_sync.events order by id"), await world.get_users()) == before
    assert '"Old" → "New"' in run_here("events", "replay", changed, "--dry-run", **environment).stdout
    await world.deliver(make_event("user.deleted", "user_1"), deleted)
    done = run_here("events", "replay", deleted, "--dry-run", **environment)
    assert done.returncode == 1
    assert "would fail" in done.stdout
    assert "violation" in done.stdout
    await db.execute("drop table orders")
    # This output contains personal data on request; QUIET keeps it away from the check for sentinels.
    assert "→ null" in run_here("events", "replay", deleted, "--dry-run", QUIET="1", **environment).stdout
    assert run_here("events", "replay", deleted, **environment).stdout == "applied: 1\n"


async def test_replaying_everything_twice_in_any_order_changes_nothing(
    world: World, environment: dict[str, Any]
) -> None:
    ids = []
    for number in range(6):
        for body in (
            make_event("user.created", f"user_{number}", T1),
            make_event("user.updated", f"user_{number}", T2, first_name="New", **make_email_fields(f"e{number}")),
            *([make_event("user.deleted", f"user_{number}")] if number % 2 else []),
        ):
            ids.append(make_message_id())
            await world.deliver_ok(body, ids[-1])
    before = await world.get_users()
    ids *= 2
    random.Random(1).shuffle(ids)
    done = run_here("events", "replay", *ids, "--json", **environment)
    assert done.returncode == 0
    assert set(json.loads(done.stdout)["outcomes"]) <= {"applied", "stale", "duplicate"}
    assert await world.get_users() == before
    assert run_here("events", "replay", "--since", "1h", **environment).returncode == 0
    assert await world.get_users() == before


async def test_one_event_is_shown_with_its_failures_and_payload(
    world: World, db: asyncpg.Connection, environment: dict[str, Any]
) -> None:
    await refuse_all_users(db)
    message_id = make_message_id()
    await world.deliver(make_event("user.created", "user_1", first_name="Plain", last_name=None), message_id)
    shown = json.loads(run_here("events", "show", message_id, **environment).stdout)
    assert shown["failures"][0]["constraint"] == "refuses"
    assert shown["payload"]["first_name"] == "Plain"
    assert find_remedy("check_violation").fix in shown["remedy"]
    listed = run_here("events", "list", "--status", "failed", **environment)
    assert f"check_violation: {shown['remedy']}" in listed.stderr


def test_an_unknown_event_is_reported(environment: dict[str, Any]) -> None:
    done = run_here("events", "replay", "msg_nowhere", **environment)
    assert done.returncode == 1
    assert "msg_nowhere: no such event" in done.stdout
