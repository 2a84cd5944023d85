"""Kills of `sync-service reconcile` at random moments of an import: the next run continues, and deletes no user."""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from tests.clerk_stub import SECRET_KEY, ClerkStub, run_clerk_stub
from tests.faults.engine import Engine
from tests.faults.fault_run import PARTS
from tests.processes import COMMAND
from tests.reconcile.conftest import add_users
from tests.world import T1, wait_until

# Eight pages, so that there are many moments between two of them.
USERS = 4000

# Users known before the import, at the end of Clerk's list: half a walk must not take them for deleted ones.
KNOWN = 100

LOG_DELETIONS = """
create table deletions (clerk_id text);
create function log_deletion() returns trigger language plpgsql as
$$ begin insert into deletions values (old.id); return old; end $$;
create trigger log_deletion after delete on users for each row execute function log_deletion();
"""

LOCKED = """
select count(*) from pg_locks as l join pg_database as d on d.oid = l.database
where l.locktype = 'advisory' and d.datname = current_database()
"""

ROWS_WITHOUT_IDENTITY = """
select count(*) from users where not exists (select from clerk_sync.identities where clerk_id = users.id)
"""

_numbers = count(1)


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStub]:
    """Clerk's users; those that are known before the import are the newest."""
    async with run_clerk_stub() as stub:
        add_users(stub, USERS)
        yield stub


@pytest.fixture
async def db(durable: Engine) -> AsyncIterator[asyncpg.Connection]:
    name = f"kills{next(_numbers)}"
    async with durable.connect("postgres") as admin:
        await admin.execute(f"create database {name} template template_migrated")
    async with durable.connect(name) as connection:
        yield connection


@contextlib.asynccontextmanager
async def start_reconcile(
    durable: Engine, db: asyncpg.Connection, clerk: ClerkStub, folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start the command once the lock of a killed one is free; PostgreSQL notices its end a moment later."""
    await wait_until(lambda: is_unlocked(db))
    database = await db.fetchval("select current_database()")
    environ = {"DATABASE_URL": durable.dsn(database), "CLERK_SECRET_KEY": SECRET_KEY, "CLERK_API_URL": clerk.url}
    process = await asyncio.create_subprocess_exec(COMMAND, "reconcile", cwd=folder, env=os.environ | environ)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def is_unlocked(db: asyncpg.Connection) -> bool:
    return bool(await db.fetchval(LOCKED) == 0)


async def kill_once(
    process: asyncio.subprocess.Process, clerk: ClerkStub, db: asyncpg.Connection, rng: random.Random
) -> bool:
    """Kill the process at a random moment of its walk; return False if the run has ended before."""
    last_call = clerk.list_calls + rng.randint(1, USERS // 500)
    await wait_until(lambda: clerk.list_calls >= last_call or process.returncode is not None)
    await asyncio.sleep(rng.uniform(0, 0.15))
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    await wait_until(lambda: is_unlocked(db))
    return bool(await db.fetchval("select finished_at is null from clerk_sync.reconciles order by id desc limit 1"))


@pytest.mark.parametrize("kills", PARTS, ids=[f"part{number}" for number in range(len(PARTS))])
async def test_no_user_is_lost_or_deleted_when_an_import_is_killed(
    durable: Engine, clerk: ClerkStub, db: asyncpg.Connection, tmp_path: Path, kills: int
) -> None:
    """Each killed run leaves only whole users. A later run imports the rest, and finds no drift the next time (G2)."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"FAULTS_SEED={seed}")
    rng = random.Random(seed)
    users = clerk.users.copy()
    clerk.users = dict(list(users.items())[-KNOWN:])
    async with start_reconcile(durable, db, clerk, tmp_path) as process:
        assert await process.wait() == 0
    await db.execute(LOG_DELETIONS)
    clerk.users = users
    known, killed = KNOWN, 0
    while killed < kills:
        for user in users.values():
            user |= {"updated_at": T1 + killed, "first_name": f"Turn {killed}"}
        async with start_reconcile(durable, db, clerk, tmp_path) as process:
            killed += await kill_once(process, clerk, db, rng)
        assert await db.fetchval(ROWS_WITHOUT_IDENTITY) == 0
        before, known = known, await db.fetchval("select count(*) from users")
        assert known >= before
    for _ in range(2):
        async with start_reconcile(durable, db, clerk, tmp_path) as process:
            assert await process.wait() == 0
    rows = await db.fetch("select id, first_name, email from users")
    assert {row["id"]: (row["first_name"], row["email"]) for row in rows} == {
        i: (user["first_name"], next((email["email_address"] for email in user["email_addresses"]), None))
        for i, user in users.items()
    }
    assert await db.fetchval("select count(*) from deletions") == 0
    runs = await db.fetch(
        "select missing + stale + differing + deleted as drift, error from clerk_sync.reconciles order by id"
    )
    assert (runs[-1]["drift"], runs[-1]["error"]) == (0, None)
    assert sum(run["error"] == "interrupted" for run in runs) == kills
