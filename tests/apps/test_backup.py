"""deploy/backup.sh and deploy/restore.sh: a dump, a loss, a restore, the owner's check, and a reconcile."""

import asyncio
import os
import shutil
import stat
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from tests.apps.onboarding.test_onboarding import count_rows
from tests.apps.shapes import FOLDER, ONBOARDING, Shape
from tests.clerk_stub import SECRET_KEY, ClerkStub
from tests.conftest import ENGINES
from tests.processes import COMMAND, run_here
from tests.world import T1, T2, World, make_email_fields, make_event

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"

RunScript = Callable[..., Awaitable["subprocess.CompletedProcess[str]"]]

# The check of the app's owner after each restore: users, users with a Clerk ID, the newest user.
CHECK = "select count(*), count(clerk_id), max(created_at) from users"

TABLES = [
    *("data_migrations", "user_interactions", "user_profiles", "user_results", "user_sessions", "users"),
]


@pytest.fixture
def shape() -> Shape:
    return ONBOARDING


@pytest.fixture
async def run_script(db: asyncpg.Connection, database: str, tmp_path: Path) -> RunScript:
    """Return a function that runs a script with the programs beside the server. The server asks for no password."""
    major = (await db.fetchval("show server_version")).partition(".")[0]
    binaries = ENGINES[f"postgres{major}"]
    if not shutil.which("pg_dump", path=str(binaries)):
        pytest.skip(f"PostgreSQL {major} is installed without pg_dump")
    shutil.copy(FOLDER / "onboarding" / "sync.toml", tmp_path)
    environ = {
        "PATH": f"{binaries}:{COMMAND.parent}:{os.environ['PATH']}",
        "DATABASE_URL": database.replace("postgresql://postgres@", "postgres+asyncpg://postgres:SECRET%5FSENTINEL@"),
    }

    def run(script: str, *arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        words = [str(DEPLOY / script), *arguments]
        done = subprocess.run(
            words, cwd=tmp_path, env=environ | changes, capture_output=True, text=True, check=False, timeout=60
        )
        print(done.stdout, done.stderr, sep="\n")  # the fixture `output` searches it for sentinels
        return done

    return lambda *words, **changes: asyncio.to_thread(run, *words, **changes)


async def create_users(world: World, clerk: ClerkStub, db: asyncpg.Connection) -> None:
    """Create users with rows in every child table."""
    for n in range(4):
        await change_user(world, clerk, "user.created", f"user_{n}", T1, first_name="older")
        for statement in ONBOARDING.children.values():
            await db.execute(statement, f"user_{n}")
    await db.execute(
        "insert into data_migrations (user_id, clerk_id, source_table) select id, clerk_id, 'visits' from users"
        " where clerk_id = 'user_0'"
    )


async def change_user(world: World, clerk: ClerkStub, event_type: str, clerk_id: str, at: int, **data: object) -> None:
    event = make_event(event_type, clerk_id, at, **make_email_fields(clerk_id), **data)
    clerk.users[clerk_id] = event["data"]
    await world.deliver_ok(event)


async def lose_everything(db: asyncpg.Connection) -> None:
    await db.execute("drop schema clerk_sync cascade")
    await db.execute(f"drop table {', '.join(TABLES)}")


@pytest.mark.every_postgres
async def test_a_backup_is_restored_and_reconciled(
    world: World, clerk: ClerkStub, db: asyncpg.Connection, run_script: RunScript, database: str, tmp_path: Path
) -> None:
    """All tables and the bookkeeping come back as they were; then the table is made equal to Clerk."""
    await create_users(world, clerk, db)
    checked, rows = await db.fetchrow(CHECK), await count_rows(db)
    assert checked
    done = await run_script("backup.sh", "yesterday")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == [f'"public"."{name}"' for name in TABLES]
    files = [*(tmp_path / "yesterday").iterdir()]
    assert sorted(file.name for file in files) == ["clerk_sync.dump", "tables", "users.dump"]
    assert not any(stat.S_IMODE(file.stat().st_mode) & 0o077 for file in files)

    await change_user(world, clerk, "user.updated", "user_1", T2, first_name="newer")
    await change_user(world, clerk, "user.created", "user_4", T2)
    clerk.remove_user("user_2")
    await world.deliver_ok(make_event("user.deleted", "user_2"))
    versions = await db.fetch("select clerk_id, version from clerk_sync.identities order by clerk_id")
    now = await db.fetch("select clerk_id, email, first_name from users order by clerk_id")

    await lose_everything(db)
    for _ in range(2):  # into an empty place, and over the tables of the first time
        done = await run_script("restore.sh", "yesterday")
        assert (done.returncode, done.stderr) == (0, "")
        assert (await db.fetchrow(CHECK), await count_rows(db)) == (checked, rows)
    assert await db.fetchval("select count(*) from clerk_sync.events") == 4
    del world.accepted[4:]  # the inbox has lost the later events
    assert await db.fetchval("select nextval('users_id_seq') > (select max(id) from users)")

    environ = {"DATABASE_URL": database, "CLERK_SECRET_KEY": SECRET_KEY, "CLERK_API_URL": clerk.url}
    done = await asyncio.to_thread(run_here, "reconcile", cwd=tmp_path, **environ)
    assert (done.returncode, "missing: 1, stale: 1, differing: 0, deleted: 1" in done.stdout) == (0, True)
    assert await db.fetch("select clerk_id, email, first_name from users order by clerk_id") == now
    assert await db.fetch("select clerk_id, version from clerk_sync.identities order by clerk_id") == versions
    assert await world.deliver_ok(make_event("user.updated", "user_2", T2)) == "stale"


@pytest.mark.every_postgres
async def test_a_restore_that_fails_changes_nothing(
    world: World, clerk: ClerkStub, db: asyncpg.Connection, run_script: RunScript, tmp_path: Path
) -> None:
    """A new table refers to the users, so PostgreSQL refuses to drop them; then an archive is damaged."""
    await create_users(world, clerk, db)
    assert (await run_script("backup.sh", "yesterday")).returncode == 0
    await change_user(world, clerk, "user.created", "user_4", T2)
    before = await db.fetchrow(CHECK)
    await db.execute("create table badges (user_id integer references users)")
    failed = await run_script("restore.sh", "yesterday")
    assert failed.returncode == 1
    assert "badges" in failed.stderr
    assert "restore.sh: the backup was not restored, and nothing is changed." in failed.stderr
    await db.execute("drop table badges")
    archive = tmp_path / "yesterday" / "clerk_sync.dump"
    archive.write_bytes(archive.read_bytes()[:-2000])
    assert (await run_script("restore.sh", "yesterday")).returncode == 1
    assert await db.fetchrow(CHECK) == before


async def test_a_backup_that_fails_leaves_no_folder(
    run_script: RunScript, db: asyncpg.Connection, tmp_path: Path
) -> None:
    """Each message says what is missing, and none has the password."""
    (tmp_path / "old").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("awk", "sed"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    missing = "postgresql://postgres:SECRET_SENTINEL@127.0.0.1:9/missing"
    for arguments, changes, words in (
        ([], {}, "usage: backup.sh FOLDER"),
        (["old"], {}, "old exists already"),
        (["new"], {"DATABASE_URL": ""}, "DATABASE_URL is not set"),
        (["new"], {"DATABASE_URL": missing}, "cannot be reached"),
        (["new"], {"PATH": str(tmp_path / "bin")}, "sync-service was not found"),
    ):
        failed = await run_script("backup.sh", *arguments, **changes)
        assert (failed.returncode != 0, words in failed.stderr) == (True, True), failed.stderr
    await db.execute("drop schema clerk_sync cascade")
    assert "No backup was made" in (await run_script("backup.sh", "new")).stderr
    assert sorted(await asyncio.to_thread(os.listdir, tmp_path)) == ["bin", "old", "sync.toml"]


@pytest.mark.parametrize(
    ("given", "url", "password"),
    [
        ("postgresql://a:b%40%2fc%C3%A9@h:5432/d?sslmode=require", "postgresql://a@h:5432/d?sslmode=require", "b@/cé"),
        ("postgres+asyncpg://a:p@ss@h/d?pgbouncer=true", "postgres://a@h/d", "p@ss"),
        ("postgresql://a@/d?pgbouncer=true&host=%2Ftmp", "postgresql://a@/d?host=%2Ftmp", ""),
    ],
)
def test_a_url_is_for_libpq_and_its_password_apart(given: str, url: str, password: str) -> None:
    """`ps` shows arguments to every user of the machine, and not the environment."""
    script = f'. {DEPLOY}/database_url.sh; printf "%s\\n%s\\n" "$url" "${{PGPASSWORD-}}"'
    environ = {"PATH": os.environ["PATH"], "DATABASE_URL": given}
    done = subprocess.run(["sh", "-euc", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [url, password]
