"""A table that was restored from yesterday's backup, or truncated: each command writes the lost rows again."""

import json

import asyncpg
import pytest

from tests.clerk_stub import ClerkStub
from tests.reconcile.conftest import RunCli
from tests.world import T1, T2, World, make_event

pytestmark = pytest.mark.every_postgres

USERS = [f"user_{n}" for n in range(4)]


async def read_rows(db: asyncpg.Connection) -> list[str]:
    return [row["row"] for row in await db.fetch("select to_jsonb(users)::text as row from users order by id")]


@pytest.fixture
async def rows(world: World, clerk: ClerkStub, db: asyncpg.Connection) -> list[str]:
    """The rows before the table was lost. Afterwards it has older, missing, current and deleted users."""
    for clerk_id in USERS[:3]:
        await world.deliver_ok(make_event("user.created", clerk_id, T1, first_name="older"))
    await db.execute("create table backup as table users")
    await world.deliver_ok(make_event("user.created", USERS[3], T1))
    for clerk_id in USERS[:2]:
        await world.deliver_ok(make_event("user.updated", clerk_id, T2, first_name="newer"))
    await world.deliver_ok(make_event("user.deleted", USERS[2]))
    for event in world.accepted:
        user = json.loads(event[1])["data"]
        if user["id"] != USERS[2]:
            clerk.users[user["id"]] = user
    found = await read_rows(db)
    await db.execute("truncate users")
    await db.execute("insert into users select * from backup where id <> 'user_1'")
    assert await read_rows(db) != found
    return found


COMMANDS = {
    "reconcile": [["reconcile"]],
    "reconcile --from-inbox": [["reconcile", "--from-inbox"]],
    "users refresh": [["users", "refresh", clerk_id] for clerk_id in USERS],
    "events replay": [["events", "replay", "--since", "1h"]],
}


@pytest.mark.parametrize("command", COMMANDS)
async def test_rows_of_the_same_version_are_written_again(
    run_cli: RunCli, rows: list[str], db: asyncpg.Connection, command: str
) -> None:
    """The bookkeeping has these versions already. Only `users refresh` leaves the row of a deleted user."""
    statuses = [(await run_cli(*arguments)).returncode for arguments in COMMANDS[command]]
    is_refresh = command == "users refresh"
    assert statuses == ([0, 0, 1, 0] if is_refresh else [0])
    if is_refresh:
        await db.execute("delete from users where id = 'user_2'")
    assert await read_rows(db) == rows
    await db.execute("truncate users")
    for arguments in COMMANDS[command]:
        await run_cli(*arguments)
    assert await read_rows(db) == rows


async def test_a_refresh_reports_the_user(run_cli: RunCli, rows: list[str], clerk: ClerkStub) -> None:
    """The status is 1 without a row. A message names the reason, and the variable of a rejected key."""
    first = await run_cli("users", "refresh", "user_0", "--json")
    assert json.loads(first.stdout) == {"clerk_id": "user_0", "outcome": "updated"}
    assert (await run_cli("users", "refresh", "user_0")).stdout == "user_0: current\n"
    assert (await run_cli("users", "refresh", "user_1")).stdout == "user_1: created\n"
    unknown = await run_cli("users", "refresh", "user_9")
    assert (unknown.returncode, "Clerk does not know this user" in unknown.stderr) == (1, True)
    clerk.users.pop("user_3")
    assert "This user is deleted" in (await run_cli("users", "refresh", "user_3")).stderr
    clerk.error_status = 500
    assert "Clerk cannot be asked (500)" in (await run_cli("users", "refresh", "user_0")).stderr
    clerk.error_status = 401
    assert "correct CLERK_SECRET_KEY" in (await run_cli("users", "refresh", "user_0")).stderr
    clerk.error_status = 0
    assert (await run_cli("reconcile")).returncode == 0
    assert len(rows) == 3
