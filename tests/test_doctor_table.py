"""`doctor` on the app's tables: issues of a mapping, and their SQL, which runs on a live table."""

import asyncio
import contextlib
from typing import Any

import asyncpg
import pytest

from sync_service.clerk.events import parse_event
from sync_service.dsn import parse_dsn
from sync_service.mapping.toml import parse_mapping
from sync_service.postgres.pool import open_database
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from tests.findings import Findings, add_lines, apply_fix, run_doctor
from tests.world import count_lock_waiters, encode_body, make_event, make_message_id, wait_until

MAPPED = """
[users]
clerk_id = "clerk_user_id"
[users.columns]
email = "primary_email"
"""

FIT = "create table users (id serial primary key, clerk_user_id text unique, email text{more})"


async def create_table(db: Any, *statements: str) -> None:
    await db.execute("drop table if exists users cascade")
    for statement in statements:
        await db.execute(statement)


async def run_with_columns(db: Any, database: str, more: str, toml: str = MAPPED) -> Findings:
    """Return the findings for a valid table with these further columns."""
    await create_table(db, FIT.format(more=f", {more}" if more else ""))
    return await run_doctor(database, toml)


@pytest.mark.parametrize(
    ("kind", "value"), [("serial", "n"), ("uuid", "gen_random_uuid()"), ("text", "'key_' || n")], ids=lambda kind: kind
)
async def test_a_table_without_a_clerk_id_gets_a_column_beside_its_key(
    database: str, db: Any, kind: str, value: str
) -> None:
    """The keys, values and foreign keys of a thousand rows are unchanged (J1).

    A key that only the app generates gets a line of sync.toml, or a default where its format is unknown.
    """
    child = {"serial": "integer"}.get(kind, kind)
    await create_table(
        db,
        f"create table users (id {kind} primary key, email text)",
        f"create table notes (id serial primary key, user_id {child} not null references users on delete cascade)",
        "create index on notes (user_id)",
        f"insert into users ({'' if kind == 'serial' else 'id, '}email)"
        f" select {'' if kind == 'serial' else value + ','} n || '@example.com' from generate_series(1, 1000) as n",
        "insert into notes (user_id) select id from users",
    )
    before = await db.fetch("select * from users order by id")
    keys = await db.fetch("select conname, pg_get_constraintdef(oid) from pg_constraint order by 1")

    found = await run_doctor(database, MAPPED)
    assert found.codes("wrong") == {"missing_clerk_id"} | (set() if kind == "serial" else {"not_null_unfilled"})
    assert (found.one("users").data["users"], found.one("users").data["with_clerk_id"]) == (1000, 0)
    await apply_fix(db, found.one("missing_clerk_id"))
    toml = MAPPED
    for unfilled in found.all("not_null_unfilled"):
        toml = add_lines(toml, unfilled)
        for statement in unfilled.run:
            await db.execute(statement)

    found = await run_doctor(database, toml)
    assert not found.codes("wrong")
    assert "deletion_cost" in found.codes("note")
    assert await db.fetch("select id, email from users order by id") == before
    assert await db.fetch("select conname, pg_get_constraintdef(oid) from pg_constraint order by 1") == keys
    assert await db.fetchval("select count(*) from users where clerk_user_id is not null") == 0


async def test_an_integer_key_without_a_default_gets_a_sequence(database: str, db: Any) -> None:
    """The sequence continues after the existing rows (J1)."""
    await create_table(
        db,
        "create table users (id bigint primary key, clerk_user_id text unique, email text)",
        "insert into users (id) values (7)",
    )
    await apply_fix(db, (await run_doctor(database, MAPPED)).one("not_null_unfilled"))
    assert not (await run_doctor(database, MAPPED)).codes("wrong")
    assert await db.fetchval("insert into users (clerk_user_id) values ('user_1') returning id") == 8


async def test_a_key_that_cannot_hold_a_clerk_id_stays_and_gets_a_column_beside_it(database: str, db: Any) -> None:
    await create_table(db, "create table users (id serial primary key, email text)")
    found = (await run_doctor(database, MAPPED.replace("clerk_user_id", "id"))).one("wrong_clerk_id_type")
    assert found.do == ('in sync.toml: clerk_id = "clerk_user_id"',)
    await apply_fix(db, found)
    assert not (await run_doctor(database, MAPPED)).codes("wrong")


async def test_a_column_too_short_for_a_clerk_id_is_widened(database: str, db: Any) -> None:
    await create_table(db, "create table users (id serial primary key, clerk_user_id varchar(20) unique, email text)")
    await apply_fix(db, (await run_doctor(database, MAPPED)).one("short_clerk_id"))
    assert not (await run_doctor(database, MAPPED)).codes("wrong")


async def test_duplicate_ids_are_counted_and_an_invalid_index_is_rebuilt(database: str, db: Any) -> None:
    await create_table(
        db,
        "create table users (id serial primary key, clerk_user_id text, email text)",
        "insert into users (clerk_user_id) values ('user_1'), ('user_1'), ('user_2'), ('mine'), ('')",
    )
    found = await run_doctor(database, MAPPED)
    assert found.codes("wrong") == {"missing_unique_index", "clerk_ids_twice"}
    assert found.one("clerk_ids_twice").data == {"clerk_ids": 1}
    assert [tuple(row) for row in await db.fetch(found.one("clerk_ids_twice").run[0])] == [("user_1", 2)]
    assert found.one("odd_clerk_ids").data == {"rows": 1}
    assert found.one("users").data == {"users": 5, "with_clerk_id": 4, "without_clerk_id": 1, "newest": None}
    with pytest.raises(asyncpg.UniqueViolationError):
        await apply_fix(db, found.one("missing_unique_index"))
    await db.execute("delete from users where id = 1")
    again = (await run_doctor(database, MAPPED)).one("missing_unique_index")
    assert again.run[0].startswith("drop index concurrently")
    await apply_fix(db, again)
    assert not (await run_doctor(database, MAPPED)).codes("wrong")


async def test_an_unfilled_not_null_column_is_reported_before_the_first_event(database: str, db: Any) -> None:
    """The finding names the NOT NULL column that has no default and no mapping (E8)."""
    found = (await run_with_columns(db, database, "plan text not null")).one("not_null_unfilled")
    assert (found.kind, found.data["column"]) == ("wrong", "plan")
    assert "public.users.plan" in found.what
    assert found.run == ()
    assert not (await run_doctor(database, add_lines(MAPPED, found))).codes("wrong")


async def test_a_column_that_some_users_cannot_fill_gets_a_placeholder(database: str, db: Any) -> None:
    await create_table(
        db, "create table users (id serial primary key, clerk_user_id text unique, email text not null unique)"
    )
    found = (await run_doctor(database, MAPPED)).one("not_null_for_some")
    assert found.kind == "warning"
    (line,) = found.do
    column = line.removeprefix("in sync.toml, below [users.columns]: ")
    with_stand_in = MAPPED.replace('email = "primary_email"', column)
    assert "not_null_for_some" not in (await run_doctor(database, with_stand_in)).codes()


async def test_missing_columns_of_the_mapping_are_added(database: str, db: Any) -> None:
    toml = MAPPED + 'seen_at = "last_sign_in_at"\nbanned = "banned"\nraw = "$"\nplan = "public_metadata.plan"\n'
    toml = toml.replace("[users.columns]", 'on_delete = "soft"\ndeleted_at = "deleted_at"\n[users.columns]')
    found = await run_with_columns(db, database, "", toml)
    assert found.codes("wrong") == {"missing_column", "missing_deleted_at"}
    for finding in (*found.all("missing_column"), found.one("missing_deleted_at")):
        await apply_fix(db, finding)
    assert not (await run_doctor(database, toml)).codes("wrong")
    types = dict(
        await db.fetch("select column_name, data_type from information_schema.columns where table_name = 'users'")
    )
    assert (types["seen_at"], types["banned"], types["raw"]) == ("timestamp with time zone", "boolean", "jsonb")


async def test_an_app_s_table_without_a_mapping_is_reported(database: str, db: Any) -> None:
    await create_table(db, "create table users (id text primary key, email text, tier text default 'FREE')")
    found = await run_doctor(database)
    assert found.codes("wrong") == {"no_mapping"}
    assert found.one("no_mapping").run == ("sync-service mapping suggest > sync.toml",)


async def test_a_view_and_a_missing_table_are_errors(database: str, db: Any) -> None:
    """The error of a missing table names the command that suggests a mapping (J5)."""
    await create_table(db, "create view users as select ''::text as clerk_user_id, ''::text as email")
    assert (await run_doctor(database, MAPPED)).codes("wrong") == {"not_a_table"}
    await db.execute("drop view users")
    assert (await run_doctor(database, MAPPED)).one("missing_table").run == ("sync-service mapping suggest",)


async def test_deletion_marks_and_placeholders_need_suitable_columns(database: str, db: Any) -> None:
    soft = MAPPED.replace("[users.columns]", 'on_delete = "soft"\ndeleted_at = "gone"\n[users.columns]')
    assert (await run_with_columns(db, database, "gone integer", soft)).codes("wrong") == {"wrong_deleted_at"}
    anonymous = MAPPED.replace("[users.columns]", 'on_delete = "anonymize"\n[users.columns]')
    anonymous += 'age = "public_metadata.age"\n'
    found = await run_with_columns(db, database, "age integer not null default 0", anonymous)
    assert "not_scrubbed" in found.codes("wrong")


async def test_columns_that_fail_for_some_users_are_warnings(database: str, db: Any) -> None:
    """Unique columns with conflicts that stay, short columns, unknown fields, and types that cannot store the field."""
    toml = (
        MAPPED
        + 'username = "username"\nfirst = "first_name"\nimage = "image_url"\nplan = "plan.name"\nage = "last_name"\n'
    )
    more = (
        "username text unique, first varchar(100), image varchar(100), plan text unique, age integer, "
        "slug text default gen_random_uuid()::text unique"
    )
    found = await run_with_columns(db, database, more, toml)
    assert found.one("unique_column").data["columns"] == ["plan"]
    assert {(short.data["column"], short.kind) for short in found.all("short_column")} == {
        ("first", "note"),
        ("image", "warning"),
    }
    assert found.one("unknown_field").data["source"] == "plan.name"
    mismatch = found.one("type_mismatch")
    assert (mismatch.kind, mismatch.data["column"]) == ("wrong", "age")
    for short in found.all("short_column"):
        await apply_fix(db, short)
    assert "short_column" not in (await run_doctor(database, toml)).codes()


async def test_triggers_are_named(database: str, db: Any) -> None:
    await db.execute(
        "create function nothing() returns trigger language plpgsql as 'begin return new; end';"
        " create trigger audit_users before update on users for each row execute function nothing()"
    )
    assert (await run_doctor(database)).one("triggers").data == {"triggers": ["audit_users"]}


@pytest.mark.parametrize("kind", ["text", "varchar(255)"])
async def test_linking_by_email_needs_an_index(database: str, db: Any, kind: str) -> None:
    toml = MAPPED.replace("[users.columns]", "link_by_verified_email = true\n[users.columns]")
    await create_table(db, f"create table users (id serial primary key, clerk_user_id text unique, email {kind})")
    await apply_fix(db, (await run_doctor(database, toml)).one("no_index_for_linking"))
    assert "no_index_for_linking" not in (await run_doctor(database, toml)).codes()
    await db.execute("insert into users (email) values ('a@x'), ('A@x'), ('b@x')")
    shared = (await run_doctor(database, toml)).one("duplicate_addresses")
    assert (shared.kind, shared.data) == ("warning", {"addresses": 1, "rows": 2})


async def test_names_in_capitals_and_with_quotes_are_quoted(database: str, db: Any) -> None:
    """Every printed statement runs on a table with quotes, blanks and capitals in its names."""
    await db.execute(
        'create schema "My ""App"; create table "My ""App"."User""s" ("Id" serial primary key, "E-Mail" text not null);'
        'create table "My ""App"."Post" ("Id" serial primary key, "userId" integer references "My ""App"."User""s");'
        'create table "My ""App"."Like" ("userId" integer)'
    )
    toml = """
        [users]
        table = '"My ""App"."User""s"'
        clerk_id = "Clerk Id"
        [users.columns]
        "E-Mail" = "primary_email"
    """
    for _ in range(2):
        found = await run_doctor(database, toml)
        for finding in found:
            for statement in finding.run:
                if not statement.startswith(("sync-service", "set it")):
                    await db.execute(statement)
    assert (found.codes("wrong"), found.codes("warning")) == (
        set(),
        {"not_null_for_some", "deletion_forbidden"},
    )


# --- on a live table ----------------------------------------------------------------------------------------------

LIVE = [
    "create table users (id serial primary key, email varchar(60), plan text)",
    "create table notes (id serial primary key, user_id integer not null references users)",
    "create table likes (id serial primary key, user_id integer not null)",
    "insert into users (email, plan) select n || '@example.com', 'free' from generate_series(1, 5000) as n",
    "insert into notes (user_id) select 1 + n % 5000 from generate_series(1, 100000) as n",
    "insert into likes (user_id) select 1 + n % 5000 from generate_series(1, 100000) as n",
]

LIVE_MAPPING = MAPPED.replace("[users.columns]", "link_by_verified_email = true\n[users.columns]")


async def run_client(database: str, number: int, done: asyncio.Event) -> None:
    """Read and write in a loop until `done` is set."""
    connection = await asyncpg.connect(database)
    try:
        while not done.is_set():
            await connection.execute("update users set plan = 'paid' where id = $1", number)
            await connection.execute("insert into notes (user_id) values ($1)", number)
            await connection.execute("insert into likes (user_id) values ($1)", number)
            await connection.fetch(
                "select email from users join notes on user_id = users.id where users.id = $1", number
            )
            await asyncio.sleep(0.01)
    finally:
        await connection.close()


async def execute_beside_clients(db: asyncpg.Connection, statement: str) -> None:
    """Execute a printed statement, again if it gives up. Raises `AssertionError` if it blocks clients for long.

    While it holds a lock that blocks clients, it must neither scan nor rewrite that table: so it holds the lock for a
    moment only, whatever the size of the table.
    """
    if "concurrently" in statement:  # cannot run in a transaction, and blocks no client
        await db.execute(statement)
        return
    inner = statement.removeprefix("begin; ").removesuffix(" commit;")
    for _ in range(20):
        with contextlib.suppress(asyncpg.LockNotAvailableError):
            async with db.transaction():
                before = await _read_table_usage(db)
                await db.execute(inner)
                blocked = {row["relname"] for row in await db.fetch(_BLOCKED_TABLES)}
                after = await _read_table_usage(db)
                assert {name: after[name] for name in blocked} == {name: before[name] for name in blocked}, statement
            return
    raise AssertionError(f"the tables were never free: {statement}")


async def _read_table_usage(db: asyncpg.Connection) -> dict[str, tuple[Any, ...]]:
    """Return each table's file and the number of its scans in this transaction."""
    rows = await db.fetch(
        "select relname, pg_relation_filenode(oid), pg_stat_get_xact_numscans(oid) from pg_class"
        " where relname in ('users', 'notes', 'likes')"
    )
    return {row["relname"]: tuple(row) for row in rows}


# These modes block writers; the last one blocks readers too.
_BLOCKED_TABLES = """
    select distinct relname from pg_locks join pg_class as c on c.oid = relation
    where pid = pg_backend_pid() and granted and relname in ('users', 'notes', 'likes')
      and mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
"""


async def test_the_printed_sql_runs_on_a_table_in_use(database: str, db: Any) -> None:
    """With twenty clients, no statement scans or rewrites a table while it blocks them (J3).

    The clients take their locks in both orders: a join locks the users first, an insert its own table.
    """
    await create_table(db, *LIVE)
    done = asyncio.Event()
    clients = [asyncio.create_task(run_client(database, number, done)) for number in range(1, 21)]
    ran: set[str] = set()
    try:
        for _ in range(3):
            for finding in await run_doctor(database, LIVE_MAPPING):
                for statement in finding.run:
                    if not statement.startswith(("sync-service", "select")):
                        assert "index" not in statement or "index concurrently" in statement
                        assert "add constraint" not in statement or "not valid" in statement
                        await execute_beside_clients(db, statement)
                        ran.add(finding.code)
    finally:
        done.set()
    await asyncio.gather(*clients)
    assert ran == {
        *("missing_clerk_id", "short_column", "no_index_for_linking", "foreign_key_without_index", "no_foreign_key"),
    }
    found = await run_doctor(database, LIVE_MAPPING)
    assert (found.codes("wrong"), found.codes("warning")) == (set(), {"deletion_forbidden"})


@pytest.mark.parametrize(
    ("statement", "blocks"),
    [
        ("begin; alter table notes alter column user_id type bigint; commit;", True),
        ("begin; alter table notes add constraint positive check (user_id > 0); commit;", True),
        ("begin; create index on notes (user_id); commit;", True),
        ("alter table notes add constraint positive check (user_id > 0) not valid", False),
        ("alter table notes validate constraint notes_user_id_fkey", False),
    ],
)
async def test_a_statement_that_blocks_clients_for_long_is_found(db: Any, statement: str, blocks: bool) -> None:
    await create_table(db, *LIVE[:3])
    with pytest.raises(AssertionError) if blocks else contextlib.nullcontext():
        await execute_beside_clients(db, statement)


async def test_sql_that_needs_an_exclusive_lock_gives_up_after_a_second(database: str, db: Any) -> None:
    """While another session locks the table, sessions queued behind the statement wait for its lock timeout (J3)."""
    await create_table(db, *LIVE)
    found = await run_doctor(database, LIVE_MAPPING)
    statements = [run for finding in found for run in finding.run if run.startswith("begin;")]
    assert len(statements) == 2
    holder, reader = await asyncpg.connect(database), await asyncpg.connect(database)
    async with holder.transaction():
        await holder.execute("lock table users, notes, likes in row exclusive mode")
        for statement in statements:
            assert "set local lock_timeout = '1s'" in statement
            attempt = asyncio.create_task(db.execute(statement))
            await wait_until(lambda: count_lock_waiters(reader))
            await reader.execute("select count(*) from users where id = 1", timeout=60)
            with pytest.raises(asyncpg.LockNotAvailableError):
                await attempt
            with contextlib.suppress(asyncpg.PostgresError):
                await db.execute("rollback")
    for statement in statements:
        await db.execute(statement)
    await holder.close()
    await reader.close()


async def test_sql_on_two_tables_retries_without_blocking_other_sessions(database: str, db: Any) -> None:
    """The statement releases its locks between attempts and succeeds once both tables are free (J3)."""
    await create_table(db, *LIVE)
    [_, changed, _] = (await run_doctor(database, LIVE_MAPPING)).one("no_foreign_key").run
    assert "set local lock_timeout = '100ms'" in changed
    holder, reader = await asyncpg.connect(database), await asyncpg.connect(database)
    async with holder.transaction():
        await holder.execute("lock table users in row exclusive mode")
        attempt = asyncio.create_task(db.execute(changed))
        for _ in range(5):
            await wait_until(lambda: count_lock_waiters(reader))  # the reader queues behind the statement
            await reader.execute(
                "select count(*) from users join likes on user_id = users.id where users.id = 1", timeout=60
            )
        assert not attempt.done()
    await attempt
    await holder.close()
    await reader.close()
    assert await db.fetchval("select count(*) from pg_constraint where conname = 'likes_user_id_fkey'") == 1


@pytest.mark.parametrize("source", ["banned", "full_name", "created_at", "public_metadata"])
async def test_a_type_mismatch_is_a_column_whose_events_are_parked(database: str, db: Any, source: str) -> None:
    """No more and no fewer: PostgreSQL decides."""
    types = ("date", "timestamptz", "int", "bigint", "numeric", "uuid", "boolean", "inet", "text", "jsonb")
    columns = ", ".join(f"a_{name} {name}" for name in types)
    head = "[users]\nclerk_id = 'clerk_user_id'\n[users.columns]\n"
    lines = {name: f"a_{name} = '{source}'\n" for name in types}
    found = await run_with_columns(db, database, columns, head + "".join(lines.values()))
    reported = {finding.data["column"].removeprefix("a_") for finding in found.all("type_mismatch")}
    pool = await open_database(parse_dsn(database))
    refused = set()
    for name, line in lines.items():
        applier = Applier(Store(pool, parse_mapping(head + line)))
        event = make_event("user.created", f"user_{name}", first_name="Ada", public_metadata={"a": 1})
        [outcome] = await applier.apply([parse_event(make_message_id(), encode_body(event))])
        refused |= {name} if outcome.outcome == "parked" else set()
    await pool.aclose()
    assert reported == refused
