"""Two releases on one schema: each event is applied, or refused with 503 so that the sender repeats it."""

import re

import asyncpg
import pytest

from sync_service.dsn import parse_dsn
from sync_service.mapping.creation import create_table
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres import migrate as migrations
from sync_service.postgres.migrate import Migration, list_migrations, migrate
from sync_service.settings import Settings
from tests.conftest import Serve
from tests.world import SECRET, T2, make_event, run_world

# Statements after which older code may fail.
REMOVES = re.compile(
    r"\b(drop\s+(table|column|function|type)|rename\s+(to|column)|set\s+not\s+null|alter\s+(column\s+)?\w+\s+type)\b"
)

# Until version 12 no release was public.
FIRST_PUBLIC = 12


async def migrate_with(db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, *newer: Migration) -> None:
    """Migrate as a newer release would, which has these migrations, too."""
    released = list_migrations()
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "list_migrations", lambda: (*released, *newer))
        assert [migration.name for migration in await migrate(db)] == [migration.name for migration in newer]


def make_newer(sql: str, suffix: str = "") -> Migration:
    version = migrations.get_needed_version() + 1
    return Migration(version, f"newer{suffix and f'{suffix}{version:04}'}", sql)


async def test_older_processes_continue_after_a_migration_that_adds(
    serve: Serve, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that runs, and one that starts later, such as after a rollback of the release."""
    newer = make_newer("alter table clerk_sync.events add column newer text; create table clerk_sync.newer ()")
    async with serve() as running:
        assert await running.deliver_ok(make_event("user.created", "user_1")) == "applied"
        await migrate_with(db, monkeypatch, newer)
        async with serve() as started:
            for number, world in enumerate((running, started)):
                assert (await world.client.get("/readyz")).status_code == 200
                assert await world.deliver_ok(make_event("user.updated", "user_1", T2 + number)) == "applied"


async def test_older_processes_refuse_events_after_a_migration_that_removes(
    serve: Serve, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the running process nor a new one parks an event, which would be a fault of the release only."""
    async with serve() as running:
        await running.deliver_ok(make_event("user.created", "user_1"))
        await migrate_with(
            db, monkeypatch, make_newer("alter table clerk_sync.identities rename tiebreak to newer", "_requires_")
        )
        async with serve() as started:
            for world in (running, started):
                response = await world.deliver(make_event("user.updated", "user_1", T2))
                assert (response.status_code, response.json()["code"]) == (503, "unavailable")
                assert (await world.client.get("/readyz")).json()["reason"] == "schema"
    assert await db.fetchval("select count(*) from clerk_sync.events") == 1


async def test_a_newer_process_refuses_events_until_the_migration(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = list_migrations()
    db = await asyncpg.connect(empty_database)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "list_migrations", lambda: released[:-1])
        await migrate(db)
    await create_table(db, DEFAULT)
    settings = Settings(database=parse_dsn(empty_database), clerk_webhook_signing_secrets=(SECRET,))
    event = make_event("user.created", "user_1")
    async with run_world(settings, db) as world:
        response = await world.deliver(event, "msg_1")
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert await db.fetchval("select count(*) from clerk_sync.events") == 0
        await migrate(db)
        assert await world.deliver_ok(event, "msg_1") == "applied"
    await db.close()


def list_unmarked(found: list[Migration]) -> list[str]:
    """Return the migrations that remove or change something without a name that says so."""
    return [
        migration.name
        for migration in found
        if REMOVES.search(re.sub(r"--.*", "", migration.sql).lower()) and "_requires_" not in migration.name
    ]


def test_a_migration_that_removes_something_says_so_in_its_name() -> None:
    assert not list_unmarked([migration for migration in list_migrations() if migration.version > FIRST_PUBLIC])
    assert list_unmarked([make_newer("ALTER TABLE x\n DROP COLUMN y"), make_newer("create table y ()")]) == ["newer"]
    assert not list_unmarked([make_newer("alter table x drop column y", "_requires_")])
