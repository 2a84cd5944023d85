"""`doctor` on a table that a restore has changed, and on the last reconcile."""

import asyncpg
import pytest

from sync_service.mapping.toml import parse_mapping
from tests.conftest import Serve
from tests.findings import run_doctor
from tests.world import T1, T2, World, make_event


async def test_rows_that_a_restore_has_lost_are_reported_with_the_command(
    world: World, db: asyncpg.Connection, database: str
) -> None:
    """A deleted user has no row, and that is right."""
    for n in range(3):
        await world.deliver_ok(make_event("user.created", f"user_{n}"))
    await world.deliver_ok(make_event("user.deleted", "user_0"))
    found = await run_doctor(database)
    assert not found.all("missing_rows")
    assert not found.all("last_reconcile")
    await db.execute("truncate users")
    await db.execute(
        "insert into clerk_sync.reconciles (mode, finished_at, missing, failed) values ('full', now(), 7, 1)"
    )
    found = await run_doctor(database)
    finding = found.one("missing_rows")
    assert (finding.kind, finding.data) == ("warning", {"rows": 2})
    assert finding.run[-1] == "sync-service reconcile --from-inbox"
    last = found.one("last_reconcile")
    assert last.kind == "warning"
    assert (last.data["missing"], last.data["failed"]) == (7, 1)
    for clerk_id in ("user_1", "user_2"):
        await world.deliver_ok(make_event("user.created", clerk_id))


@pytest.mark.every_postgres
@pytest.mark.parametrize(
    "entry",
    ["changed = 'updated_at'", "changed = { generate = 'now' }"],
    ids=["a column with Clerk's time", "the app's time"],
)
@pytest.mark.parametrize("time_type", ["timestamptz", "timestamp(0)"])
async def test_rows_older_than_the_bookkeeping_are_reported_with_the_command(
    serve: Serve, db: asyncpg.Connection, database: str, entry: str, time_type: str
) -> None:
    """The users table alone was restored from yesterday's backup."""
    toml = f"[users]\ntable = 'people'\nclerk_id = 'id'\n[users.columns]\nname = 'first_name'\n{entry}\n"
    await db.execute(f"create table people (id text primary key, name text, changed {time_type})")
    async with serve(mapping=parse_mapping(toml)) as world:
        for n in range(3):
            await world.deliver_ok(make_event("user.created", f"user_{n}", T1, first_name="older"))
        await db.execute("create table backup as table people")
        for n in range(2):
            await world.deliver_ok(make_event("user.updated", f"user_{n}", T2 + 500, first_name="newer"))
    assert not (await run_doctor(database, toml)).all("older_rows")
    await db.execute("truncate people")
    await db.execute("insert into people table backup")
    found = await run_doctor(database, toml, clerk_secret_key="sk_test_SECRET_SENTINEL")
    assert (found.one("older_rows").data, found.one("older_rows").run[-1]) == ({"rows": 2}, "sync-service reconcile")
    found = await run_doctor(database, toml)
    assert found.one("older_rows").run[-1] == "sync-service reconcile --from-inbox"
