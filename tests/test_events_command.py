"""`events list`, `show`, `replay`: what operators see and do (SCENARIOS F9, G8)."""

import json
import random
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.processes import run
from tests.world import SECRET, T1, T2, World, event, message, with_email


@pytest.fixture
def here(tmp_path: Path, database: str) -> dict[str, Any]:
    """Where and with what the commands run."""
    return {"cwd": tmp_path, "DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}


async def refuse(db: asyncpg.Connection) -> None:
    await db.execute("alter table users add constraint refuses check (first_name = '') not valid")


async def test_a_list_is_filtered_and_tells_no_payload(world: World, here: dict[str, Any]) -> None:
    await world.outcome(event("user.created", "user_1", T2))
    await world.outcome(event("user.updated", "user_1", T1))
    await world.outcome(event("session.created", "user_1"))
    everything = json.loads(run("events", "list", "--json", **here).stdout)["events"]
    assert [line["type"] for line in everything] == ["session.created", "user.updated", "user.created"]
    assert all("payload" not in line for line in everything)
    for words, number in (
        (["--status", "stale"], 1),
        (["--type", "user.created"], 1),
        (["--user", "user_1"], 2),
        (["--since", "1h"], 3),
        (["--until", "1h"], 0),
        (["--since", "2020-01-01", "--limit", "2"], 2),
        (["--since", "2020-01-01T10:00+02:00", "--status", "applied"], 1),
    ):
        assert len(run("events", "list", *words, **here).stdout.splitlines()) == number, words
    assert run("events", "list", "--since", "yesterday", **here).returncode == 2


async def test_dead_events_are_replayed_once_the_table_is_repaired(
    world: World, db: asyncpg.Connection, here: dict[str, Any]
) -> None:
    """G8: a poison event stays and does not stop the others; a second run does nothing."""
    await refuse(db)
    ids = [message() for _ in range(10)]
    for number, message_id in enumerate(ids):
        assert (await world.deliver(event("user.created", f"user_{number}"), message_id)).status_code == 202
    await db.execute("update clerk_sync.events set status = 'dead', next_attempt_at = null")
    await db.execute("alter table users drop constraint refuses")
    await db.execute("alter table users add constraint refuses check (id <> 'user_3')")
    done = run("events", "replay", "--status", "dead", "--json", **here)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"outcomes": {"applied": 9, "parked": 1}, "missing": []}
    poison = await world.event(ids[3])
    assert poison
    assert (poison["status"], poison["attempts"]) == ("failed", 2)
    await db.execute("alter table users drop constraint refuses")
    assert run("events", "replay", ids[3], **here).stdout == "applied: 1\n"
    assert await db.fetchval("select min(attempts) from clerk_sync.events") == 2
    again = run("events", "replay", "--status", "dead", **here)
    assert (again.returncode, again.stdout) == (0, "no events to replay\n")


async def test_a_replay_of_what_is_older_than_the_row_is_stale(
    world: World, db: asyncpg.Connection, here: dict[str, Any]
) -> None:
    """F9."""
    await refuse(db)
    message_id = message()
    await world.deliver(event("user.updated", "user_1", T1), message_id)
    await db.execute("alter table users drop constraint refuses")
    await db.execute("update clerk_sync.events set status = 'dead', next_attempt_at = null")
    await world.outcome(event("user.updated", "user_1", T2))
    before = await world.users()
    assert run("events", "replay", message_id, **here).stdout == "stale: 1\n"
    assert await world.users() == before


async def test_a_dry_run_shows_what_would_change_and_changes_nothing(
    world: World, db: asyncpg.Connection, here: dict[str, Any]
) -> None:
    await world.outcome(event("user.created", "user_1", T1, first_name="Old", last_name=None, **with_email("e")))
    await db.execute("alter table users add constraint refuses check (first_name <> 'New')")
    changed, deleted = message(), message()
    await world.deliver(
        event("user.updated", "user_1", T2, first_name="New", last_name=None, **with_email("e")), changed
    )
    await db.execute("alter table users drop constraint refuses")
    await db.execute("create table orders (user_id text references users)")
    await db.execute("insert into orders values ('user_1')")
    before = await db.fetch("select * from clerk_sync.events order by id"), await world.users()
    done = run("events", "replay", "--status", "failed", "--dry-run", "--json", **here)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["id"] == changed
    assert lines[0]["changes"]["first_name"] == ["Old", "New"]
    assert set(lines[0]["changes"]) == {"first_name", "updated_at"}
    assert lines[-1]["outcomes"] == {"would change": 1}
    assert (await db.fetch("select * from clerk_sync.events order by id"), await world.users()) == before
    assert '"Old" → "New"' in run("events", "replay", changed, "--dry-run", **here).stdout
    await world.deliver(event("user.deleted", "user_1"), deleted)
    done = run("events", "replay", deleted, "--dry-run", **here)
    assert done.returncode == 1
    assert "would fail" in done.stdout
    assert "violation" in done.stdout
    await db.execute("drop table orders")
    # An operator asked for the row, and sees it; it is not printed once more for the look for sentinels.
    assert "→ null" in run("events", "replay", deleted, "--dry-run", QUIET="1", **here).stdout
    assert run("events", "replay", deleted, **here).stdout == "applied: 1\n"


async def test_replaying_everything_twice_in_any_order_changes_nothing(world: World, here: dict[str, Any]) -> None:
    ids = []
    for number in range(6):
        for body in (
            event("user.created", f"user_{number}", T1),
            event("user.updated", f"user_{number}", T2, first_name="New", **with_email(f"e{number}")),
            *([event("user.deleted", f"user_{number}")] if number % 2 else []),
        ):
            ids.append(message())
            await world.outcome(body, ids[-1])
    before = await world.users()
    ids *= 2
    random.Random(1).shuffle(ids)
    done = run("events", "replay", *ids, "--json", **here)
    assert done.returncode == 0
    assert set(json.loads(done.stdout)["outcomes"]) <= {"applied", "stale", "duplicate"}
    assert await world.users() == before
    assert run("events", "replay", "--since", "1h", **here).returncode == 0
    assert await world.users() == before


async def test_one_event_is_shown_with_its_failures_and_payload(
    world: World, db: asyncpg.Connection, here: dict[str, Any]
) -> None:
    await refuse(db)
    message_id = message()
    await world.deliver(event("user.created", "user_1", first_name="Plain", last_name=None), message_id)
    shown = json.loads(run("events", "show", message_id, **here).stdout)
    assert shown["failures"][0]["constraint"] == "refuses"
    assert shown["payload"]["first_name"] == "Plain"
    missing = run("events", "show", "msg_nowhere", **here)
    assert (missing.returncode, missing.stdout) == (1, "null\n")


def test_replay_wants_ids_or_a_filter(here: dict[str, Any]) -> None:
    for words in ([], ["msg_1", "--status", "dead"]):
        done = run("events", "replay", *words, **here)
        assert done.returncode == 2
        assert "name the IDs of events, or a filter" in done.stderr


def test_an_event_that_is_not_there_is_said(here: dict[str, Any]) -> None:
    done = run("events", "replay", "msg_nowhere", **here)
    assert done.returncode == 1
    assert "msg_nowhere: no such event" in done.stdout
