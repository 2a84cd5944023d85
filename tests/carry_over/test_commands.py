"""`carry-overs list`, `show` and `roll-back`."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sync_service.mapping.toml import parse_mapping
from tests.carry_over.conftest import (
    ANSWERS,
    MARKER,
    PROFILE,
    carry,
    count_rows,
    create_app,
    make_body,
    read_result,
)
from tests.clerk_stub import ClerkStub
from tests.conftest import Serve
from tests.processes import run_here
from tests.sync_requests import build_settings
from tests.world import T2, World, make_event


class Commands:
    """The commands of one database."""

    def __init__(self, database: str, folder: Path) -> None:
        self._database = database
        self._folder = folder

    async def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environ = {"DATABASE_URL": self._database}
        done = await asyncio.to_thread(run_here, "carry-overs", *arguments, cwd=self._folder, **environ)
        assert MARKER not in done.stdout + done.stderr
        return done

    async def read(self, *arguments: str) -> Any:
        """Run a command with --json and return its output."""
        done = await self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def commands(database: str, tmp_path: Path) -> Commands:
    return Commands(database, tmp_path)


async def test_list_and_show_print_the_records(world: World, commands: Commands) -> None:
    """The newest first, and without the data of the visitor."""
    assert (await commands.run("list")).stderr == "no carry-over matches\n"
    assert read_result(await carry(world, make_body("a")))[0] == "completed"
    assert read_result(await carry(world, make_body("b", user_profiles=[{"age": 7}])))[0] == "failed"
    found = (await commands.read("list"))["carry_overs"]
    assert [(c["id"], c["clerk_id"], c["status"], c["reason"], c["rows"]) for c in found] == [
        ("b", "user_1", "failed", "check_violation", 0),
        ("a", "user_1", "completed", None, 3),
    ]
    assert len((await commands.read("list", "--status", "failed"))["carry_overs"]) == 1
    assert (await commands.read("list", "--user", "user_2"))["carry_overs"] == []
    assert len((await commands.run("list", "--limit", "1")).stdout.splitlines()) == 1
    shown = await commands.read("show", "a")
    assert [row["key"] for row in shown["keys"]] == [
        {"id": 1},
        {"user_id": 1, "question": "q1"},
        {"user_id": 1, "question": "q2"},
    ]
    text = (await commands.run("show", "b")).stdout
    for part in ("failed", "user_1", "check_violation", "user_profiles_age_check"):
        assert part in text
    unknown = await commands.run("show", "c")
    assert (unknown.returncode, "no such carry-over" in unknown.stderr) == (1, True)


async def test_roll_back_removes_exactly_the_rows_of_the_carry_over(
    world: World, db: asyncpg.Connection, commands: Commands
) -> None:
    """Rows of the app and of other visits stay. It says which rows were gone already, and a repeat removes none."""
    assert read_result(await carry(world, make_body("a")))[0] == "completed"
    assert read_result(await carry(world, make_body("b", interactions=[{"question": "q3", "answer": "x"}])))[0]
    assert read_result(await carry(world, make_body("c"), "user_2"))[0] == "completed"
    await db.execute("insert into app.interactions values (1, 'own', 'x')")
    await db.execute("delete from app.interactions where user_id = 1 and question = 'q2'")
    assert await commands.read("roll-back", "a") == {"id": "a", "status": "rolled_back", "removed": 2, "gone": 1}
    assert [tuple(row) for row in await db.fetch("select user_id, question from app.interactions order by 1, 2")] == [
        *((1, "own"), (1, "q3"), (2, "q1"), (2, "q2")),
    ]
    assert await db.fetchval("select array_agg(user_id) from app.user_profiles") == [2]
    again = await commands.run("roll-back", "a")
    assert (again.returncode, again.stdout.strip()) == (0, "a: was rolled back before; no row was removed")
    record = await db.fetchrow(
        "select status, rolled_back_at >= finished_at from clerk_sync.carry_overs where id = 'a'"
    )
    assert tuple(record or ()) == ("rolled_back", True)
    audit = await db.fetch("select who, action, subject from clerk_sync.audit")
    assert [tuple(row) for row in audit] == [("command", "roll_back_carry_over", "a")]
    # The ID stays used, and its rows are not written again.
    assert read_result(await carry(world, make_body("a"))) == ("failed", "rolled_back")


async def test_roll_back_of_a_failed_or_unknown_carry_over_is_status_1(world: World, commands: Commands) -> None:
    assert read_result(await carry(world, make_body("a", user_profiles=[{"age": 7}])))[0] == "failed"
    failed, unknown = await commands.run("roll-back", "a"), await commands.run("roll-back", "b")
    assert (failed.returncode, failed.stdout.strip()) == (
        1,
        "a: is failed and has written no row, so there is none to remove",
    )
    assert (unknown.returncode, "no such carry-over" in unknown.stderr) == (1, True)


OBSTACLES = {
    "create table app.likes (profile integer references app.user_profiles (id)); insert into app.likes values (1)": (
        "app.likes refuses it (foreign_key_violation, constraint likes_profile_fkey)"
    ),
    "create function app.keep() returns trigger language plpgsql as $$ begin return null; end $$;"
    "create trigger keep before delete on app.user_profiles for each row execute function app.keep()": (
        "app.user_profiles refuses it (row_not_removed)"
    ),
}


@pytest.mark.parametrize("obstacle", OBSTACLES, ids=["a foreign key", "a trigger"])
async def test_roll_back_removes_all_rows_or_none(
    world: World, db: asyncpg.Connection, commands: Commands, obstacle: str
) -> None:
    assert read_result(await carry(world, make_body()))[0] == "completed"
    rows = await count_rows(db)
    await db.execute(obstacle)
    done = await commands.run("roll-back", "visit-1")
    assert (done.returncode, OBSTACLES[obstacle] in done.stderr) == (1, True), done.stderr
    assert await count_rows(db) == rows
    assert await db.fetchval("select status from clerk_sync.carry_overs") == "completed"
    assert not await db.fetchval("select count(*) from clerk_sync.audit")


async def test_roll_back_needs_a_primary_key(world: World, db: asyncpg.Connection, commands: Commands) -> None:
    body = make_body(notes=[{"text": MARKER}], interactions=ANSWERS, user_profiles=[PROFILE])
    assert read_result(await carry(world, body))[0] == "completed"
    rows = await count_rows(db)
    done = await commands.run("roll-back", "visit-1")
    assert (done.returncode, "app.notes refuses it (no_primary_key)" in done.stderr) == (1, True)
    assert await count_rows(db) == rows


async def test_roll_back_after_the_deletion_of_the_user_or_of_the_table(
    world: World, db: asyncpg.Connection, commands: Commands
) -> None:
    """A deletion removes the keys from the record, because a key may contain a value of the user."""
    assert read_result(await carry(world, make_body("a")))[0] == "completed"
    assert read_result(await carry(world, make_body("b"), "user_2"))[0] == "completed"
    assert await world.deliver_ok(make_event("user.deleted", "user_1", T2)) == "applied"
    assert await commands.read("roll-back", "a") == {"id": "a", "status": "rolled_back", "removed": 0, "gone": 0}
    await db.execute("drop table app.interactions")
    assert await commands.read("roll-back", "b") == {"id": "b", "status": "rolled_back", "removed": 1, "gone": 2}


WEIRD = """
[users]
table = "app.users"
clerk_id = "clerk_id"
[users.columns]
first_name = "first_name"
[carry_over."My rows; --"]
table = "app.\\"We're\\"\\" here\\""
user = "owner's key"
columns = ["n\\"1", "é %s $1", "Größe"]
"""


async def test_every_name_of_a_table_or_a_column_works(
    serve: Serve, clerk: ClerkStub, db: asyncpg.Connection, commands: Commands
) -> None:
    await create_app(db)
    await db.execute(
        'create table app."We\'re"" here" ("owner\'s key" integer references app.users (id) on delete cascade,'
        ' "n""1" integer, "é %s $1" text, "Größe" numeric, primary key ("é %s $1", "n""1"))'
    )
    clerk.add_user("user_1")
    async with serve(**build_settings(clerk, mapping=parse_mapping(WEIRD))) as world:
        rows: dict[str, Any] = {"My rows; --": [{'n"1': 1, "é %s $1": "x"}, {'n"1': 2, "é %s $1": "y'z", "Größe": 1.5}]}
        assert read_result(await carry(world, make_body(**rows))) == ("completed", None)
    assert await db.fetchval('select count(*) from app."We\'re"" here"') == 2
    assert (await commands.read("roll-back", "visit-1"))["removed"] == 2
