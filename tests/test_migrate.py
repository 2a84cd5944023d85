"""Migrations run once each, also concurrently, and a changed or newer migration is refused."""

import asyncio

import asyncpg
import pytest

from sync_service.clerk.events import parse_event
from sync_service.errors import SchemaError
from sync_service.mapping.creation import create_table
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres import migrate as migrations
from sync_service.postgres.migrate import Migration, list_migrations, migrate, read_schema_state
from tests.benchmarks.bodies import make_body
from tests.world import T1, make_message_id

pytestmark = pytest.mark.every_postgres

USER_ID = "user_2aBcDeFgHiJkLmNoPqRsTuVwXyZ"


async def test_ten_concurrent_runs_run_each_migration_once(empty_database: str) -> None:
    connections = [await asyncpg.connect(empty_database) for _ in range(10)]
    ran = await asyncio.gather(*(migrate(connection) for connection in connections))
    assert sum(map(len, ran)) == len(list_migrations())
    await asyncio.gather(*(create_table(connection, DEFAULT) for connection in connections))
    assert (await read_schema_state(connections[0])).is_ready
    for connection in connections:
        await connection.close()


async def test_a_second_run_runs_no_migration(db: asyncpg.Connection) -> None:
    assert await migrate(db) == []


async def test_a_payload_is_compressed_and_stays_in_its_row(db: asyncpg.Connection) -> None:
    """Compression halves a usual payload. Values outside of the row would need index entries of their own."""
    body = make_body("user.updated", USER_ID, T1)
    event = parse_event(make_message_id(), body)
    await db.execute(
        "insert into clerk_sync.events (id, type, clerk_id, status, payload, finished_at)"
        " values ($1, $2, $3, 'applied', $4, now())",
        *(event.id, event.type, event.clerk_id, event.payload),
    )
    stored = await db.fetchrow("select pg_column_compression(payload), pg_column_size(payload) from clerk_sync.events")
    assert stored
    assert stored[0] in {"lz4", "pglz"}
    assert stored[1] < len(event.payload or "") * 0.75
    outside = await db.fetchval(
        "select pg_relation_size(reltoastrelid) from pg_class where oid = 'clerk_sync.events'::regclass"
    )
    assert outside == 0


async def test_a_failed_migration_is_rolled_back(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    released = migrations.get_needed_version()
    broken = [
        *list_migrations(),
        Migration(released + 1, "broken", "create table clerk_sync.half (); select 1/0"),
    ]
    monkeypatch.setattr(migrations, "list_migrations", lambda: broken)
    connection = await asyncpg.connect(empty_database)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(connection)
    assert (await read_schema_state(connection)).version == released
    assert await connection.fetchval("select to_regclass('clerk_sync.half')") is None
    await connection.close()


async def test_a_migration_edited_after_its_release_is_refused(db: asyncpg.Connection) -> None:
    await db.execute("update clerk_sync.migrations set checksum = 'another'")
    with pytest.raises(SchemaError, match=r"Migration 0001 .* with another text"):
        await migrate(db)


async def add_later_migration(db: asyncpg.Connection, name: str) -> None:
    await db.execute("insert into clerk_sync.migrations (version, name, checksum) values (99, $1, 'x')", name)


async def test_a_schema_of_a_newer_release_is_usable(db: asyncpg.Connection) -> None:
    await add_later_migration(db, "later")
    assert await migrate(db) == []
    state = await read_schema_state(db)
    assert (state.version, state.is_ready) == (99, True)
    assert "newer" in str(state)


async def test_a_schema_that_requires_a_newer_release_is_refused(db: asyncpg.Connection) -> None:
    await add_later_migration(db, f"later_requires_{migrations.get_needed_version() + 1:04}")
    with pytest.raises(SchemaError, match=rf"ahead of {migrations.get_needed_version()}: deploy the newer"):
        await migrate(db)
    assert not (await read_schema_state(db)).is_ready


async def test_a_migration_below_the_newest_one_may_be_missing(db: asyncpg.Connection) -> None:
    """Two branches of the development can each add a migration, and the lower number may arrive later."""
    await db.execute("delete from clerk_sync.migrations where version = 9")
    state = await read_schema_state(db)
    assert (state.version, state.is_ready) == (8, False)


async def test_a_requirement_that_this_code_meets_is_no_obstacle(db: asyncpg.Connection) -> None:
    await add_later_migration(db, f"later_requires_{migrations.get_needed_version():04}")
    assert await migrate(db) == []


async def test_a_database_without_the_schema_is_behind(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    state = await read_schema_state(connection)
    assert (state.version, state.is_ready) == (0, False)
    assert "run `sync-service migrate`" in str(state)
    await connection.close()


async def test_an_existing_users_table_is_not_changed(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    await connection.execute("create table users (id serial primary key)")
    await create_table(connection, DEFAULT)
    columns = await connection.fetch("select column_name from information_schema.columns where table_name = 'users'")
    assert [row[0] for row in columns] == ["id"]
    await connection.close()


async def test_named_constraints_refuse_invalid_states(db: asyncpg.Connection) -> None:
    for statement, constraint in (
        ("insert into clerk_sync.events (id, type, status) values ('m', 't', 'odd')", "a_status_is_one_of_five"),
        (
            "insert into clerk_sync.events (id, type, status, finished_at) values ('m', 't', 'failed', now())",
            "only_a_failed",
        ),
        ("insert into clerk_sync.events (id, type, status) values ('m', 't', 'applied')", "only_a_failed_or_dead"),
        (
            "insert into clerk_sync.identities (clerk_id, created_by) values ('u', 'webhook')",
            "an_identity_has_a_version",
        ),
        ("insert into clerk_sync.instance (only_one, id) values (false, 'ins')", "there_is_one_instance"),
    ):
        with pytest.raises(asyncpg.CheckViolationError) as raised:
            await db.execute(statement)
        assert raised.value.constraint_name
        assert raised.value.constraint_name.startswith(constraint)


def test_versions_are_the_numbers_from_one() -> None:
    versions = [migration.version for migration in list_migrations()]
    assert versions == [*range(1, migrations.get_needed_version() + 1)]


async def test_payloads_that_an_older_release_kept_of_deleted_users_are_removed(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting one is finished. Other users and events before a deferred deletion keep theirs."""
    all_migrations = list_migrations()
    monkeypatch.setattr(migrations, "list_migrations", lambda: [m for m in all_migrations if m.version < 7])
    connection = await asyncpg.connect(empty_database)
    await migrate(connection)
    await connection.execute(
        "insert into clerk_sync.identities (clerk_id, deleted_at, created_by) values ('user_1', now(), 'webhook');"
        " insert into clerk_sync.events"
        " (id, type, clerk_id, status, payload, received_at, next_attempt_at, finished_at)"
        " values ('early', 'user.updated', 'user_1', 'applied', '{}', now() - interval '1 s', null, now()),"
        " ('late', 'user.updated', 'user_1', 'stale', '{}', now() + interval '1 s', null, now()),"
        " ('waiting', 'user.updated', 'user_1', 'failed', '{}', now() + interval '1 s', now(), null),"
        " ('other', 'user.updated', 'user_2', 'failed', '{}', now(), now(), null)"
    )
    monkeypatch.setattr(migrations, "list_migrations", lambda: all_migrations)
    await migrate(connection)
    rows = await connection.fetch("select id, status, payload is not null as kept from clerk_sync.events order by id")
    assert [tuple(row) for row in rows] == [
        ("early", "applied", True),
        ("late", "stale", False),
        ("other", "failed", True),
        ("waiting", "stale", False),
    ]
    await connection.close()
