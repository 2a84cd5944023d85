"""The runbook in docs/operations.md: its SQL, mappings and commands, run as they are printed."""

import asyncio
import re
import shlex
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sync_service.cli import create_parser
from sync_service.documentation import list_pages, read_page
from tests.clerk_stub import SECRET_KEY, ClerkStub
from tests.processes import run_here
from tests.world import INSTANCE, T2, World, make_event

Command = Callable[..., Awaitable["subprocess.CompletedProcess[str]"]]

NEW_INSTANCE = "ins_2newnewnewnewnewnewnewnewnew"

# Neon's table, whose columns are generated from the JSON of Stack Auth, and a table of the app.
NEON = """
create schema neon_auth;
create table neon_auth.users_sync (
    raw_json jsonb not null,
    id text generated always as (raw_json ->> 'id') stored primary key,
    name text generated always as (raw_json ->> 'display_name') stored,
    email text generated always as (raw_json ->> 'primary_email') stored,
    updated_at timestamptz,
    deleted_at timestamptz
);
create table public.orders (id int primary key, user_id text not null references neon_auth.users_sync (id));
insert into neon_auth.users_sync (raw_json) values ('{"id": "stack-1", "display_name": "Old"}');
insert into neon_auth.users_sync (raw_json, deleted_at) values ('{"id": "stack-2"}', now());
insert into public.orders values (1, 'stack-1'), (2, 'stack-2');
"""

OWN_KEYS = """
create table public.users (id serial primary key, clerk_user_id text unique, first_name text);
create table public.orders (id int primary key, user_id int not null references public.users);
"""


def read_section(title: str) -> str:
    section = re.search(rf"^### {title}\n(.*?)(?=^##|\Z)", read_page("operations"), re.MULTILINE | re.DOTALL)
    assert section
    return section[1]


def read_block(section: str, language: str) -> str:
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return str(block)


def list_commands(text: str) -> list[str]:
    """Return the commands in the blocks of a text that a shell would run, and those between backticks."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    prose = re.sub(r"^```.*?^```|^\|.*?$", "", text, flags=re.MULTILINE | re.DOTALL)
    return lines + re.findall(r"`(sync-service [a-z][^`]*)`", prose)


def list_our_commands(text: str) -> list[list[str]]:
    """Return the arguments of each `sync-service` command; placeholders become valid values."""
    found = []
    for line in list_commands(text):
        words = shlex.split(line.replace("…", "1"), comments=True)
        words = words[: next((n for n, word in enumerate(words) if word in {">", "|"}), None)]
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words and words[0].endswith("sync-service"):
            found.append(words[1:])
    return found


@pytest.mark.parametrize("page", list_pages())
def test_every_printed_command_is_accepted(page: str) -> None:
    """A name in capitals, such as ID, stands for a value."""
    for arguments in list_our_commands(read_page(page)):
        if arguments[0] not in {"--version", "--print-completion"}:
            create_parser().parse_args(arguments)


def test_the_check_of_commands_finds_the_commands() -> None:
    commands = list_our_commands(read_page("operations"))
    assert ["events", "replay", "--status", "dead", "--dry-run"] in commands
    assert ["users", "show", "user_1"] in commands
    assert len(commands) > 50


@pytest.fixture
def command(empty_database: str, clerk: ClerkStub, tmp_path: Path) -> Command:
    """Return a function that runs a command in a thread, while this loop serves the stub."""
    environment = {"DATABASE_URL": empty_database, "CLERK_SECRET_KEY": SECRET_KEY, "CLERK_API_URL": clerk.url}
    return partial(asyncio.to_thread, run_here, cwd=tmp_path, **environment)


async def read_keys(db: asyncpg.Connection) -> dict[str | None, Any]:
    """Return the key of each row by its Clerk ID."""
    return {row["clerk_user_id"]: row["id"] for row in await db.fetch("select id, clerk_user_id from users")}


async def run(command: Command, *arguments: str) -> None:
    done = await command(*arguments)
    assert done.returncode == 0, done.stderr


async def test_users_of_neon_auth_keep_their_keys(
    command: Command, empty_database: str, clerk: ClerkStub, tmp_path: Path
) -> None:
    section = read_section("From Neon Auth")
    await asyncio.to_thread((tmp_path / "sync.toml").write_text, read_block(section, "toml"))
    clerk.add_user("user_1", external_id="stack-1")
    clerk.add_user("user_2")
    db = await asyncpg.connect(empty_database)
    await db.execute(NEON)
    await db.execute(read_block(section, "sql"))
    for arguments in list_our_commands(section)[:2]:
        await run(command, *arguments)
    rows = await read_keys(db)
    assert rows["user_1"] == "stack-1"
    assert rows.keys() == {"user_1", "user_2"}
    assert [row["user_id"] for row in await db.fetch("select user_id from orders")] == ["stack-1"]
    await db.close()


async def test_rows_keep_their_keys_in_another_clerk_instance(
    command: Command, empty_database: str, clerk: ClerkStub, tmp_path: Path
) -> None:
    section = read_section("To another Clerk instance")
    mapping = (
        '[users]\nclerk_id = "clerk_user_id"\nlink_by_external_id = true\n[users.columns]\nfirst_name = "first_name"'
    )
    await asyncio.to_thread((tmp_path / "sync.toml").write_text, mapping)
    db = await asyncpg.connect(empty_database)
    await db.execute(OWN_KEYS)
    clerk.add_user("user_old1")
    clerk.add_user("user_old2")
    await run(command, "migrate")
    await run(command, "reconcile")
    keys = await read_keys(db)
    await db.execute("insert into orders select id, id from users")

    clerk.kids = {NEW_INSTANCE: "clerk"}
    clerk.users.clear()
    clerk.add_user("user_new1", external_id=str(keys["user_old1"]))
    clerk.add_user("user_new3")
    assert (await command("reconcile")).returncode == 1  # the key belongs to another instance
    await db.execute(read_block(section, "sql"))
    migrate, dry_run, reconcile = list_our_commands(section)[:3]
    await run(command, *migrate)
    assert (await command(*dry_run)).returncode == 1
    await run(command, *reconcile)
    found = await read_keys(db)
    assert found.keys() == {"user_new1", "user_new3", None}
    assert (found["user_new1"], found[None]) == (keys["user_old1"], keys["user_old2"])
    assert await db.fetchval("select count(*) from orders") == 2
    assert await db.fetchval("select id from clerk_sync.instance") == NEW_INSTANCE
    await db.close()


async def test_a_row_whose_key_is_the_clerk_id_gets_a_column_for_the_new_one(
    command: Command, empty_database: str, clerk: ClerkStub, tmp_path: Path
) -> None:
    section = read_section("To another Clerk instance")
    add_column = re.search(r"`(alter table .*?)`", section.replace("\n", " "))
    assert add_column
    db = await asyncpg.connect(empty_database)
    clerk.add_user("user_old1")
    await run(command, "migrate")
    await run(command, "reconcile")
    clerk.kids = {NEW_INSTANCE: "clerk"}
    clerk.users.clear()
    clerk.add_user("user_new1", external_id="user_old1")
    clerk.add_user("user_new2")
    await db.execute(add_column[1])
    await db.execute(read_block(section, "sql"))
    lines = re.findall(r"`(clerk_id = .*?|id = \{.*?\})`", section)
    mapping = f'preset = "text_id"\n[users]\n{lines[0]}\nlink_by_external_id = true\n[users.columns]\n{lines[1]}'
    await asyncio.to_thread((tmp_path / "sync.toml").write_text, mapping)
    await run(command, "migrate")
    await run(command, "reconcile")
    rows = await read_keys(db)
    assert rows["user_new1"] == "user_old1"
    assert rows.keys() == {"user_new1", "user_new2"}
    await db.close()


async def test_the_data_of_an_erased_user_is_gone(world: World, database: str, tmp_path: Path) -> None:
    """The command that the runbook prints shows only the ID and times."""
    await world.deliver_ok(make_event("user.created", "user_1", T2))
    await world.deliver_ok(make_event("user.deleted", "user_1"))
    (show,) = [line for line in list_our_commands(read_section("Erasure requests")) if line[0] == "users"]
    done = run_here(*show, cwd=tmp_path, DATABASE_URL=database)
    assert "no row" in done.stdout
    assert "PII_SENTINEL" not in done.stdout
    assert INSTANCE not in done.stdout
