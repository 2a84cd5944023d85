"""`doctor` on tables that refer to the users: foreign keys, the cost of a deletion, columns without a constraint."""

from functools import partial
from typing import Any

import asyncpg
import pytest

from sync_service.doctor.counts import Counter
from sync_service.doctor.foreign_key_graph import build_graph
from sync_service.doctor.introspection import ForeignKey
from tests.findings import apply_fix, run_doctor

pytestmark = pytest.mark.every_postgres

MAPPED = '[users]\nclerk_id = "clerk_id"\n[users.columns]\nemail = "primary_email"\n'

PEOPLE = [
    "drop table users",
    "create table users (id serial primary key, clerk_id text unique, email text, deleted_at timestamptz)",
    "insert into users (clerk_id, email) select 'user_' || n, n || '@example.com' from generate_series(1, 10) as n",
]


async def create_tables(db: Any, *statements: str) -> None:
    for statement in (*PEOPLE, *statements):
        await db.execute(statement)


def make_foreign_key(child: int, parent: int, on_delete: str = "c") -> ForeignKey:
    return ForeignKey(
        name=f"{child}_{parent}",
        child_oid=child,
        parent_oid=parent,
        schema="public",
        table=str(child),
        parent_schema="public",
        parent_table=str(parent),
        partitioned=False,
        on_delete=on_delete,
        validated=True,
        required=False,
        columns=("x",),
        parent_columns=("id",),
        indexed=True,
        indexes=(),
        estimated_rows=0,
    )


def test_a_cycle_of_foreign_keys_terminates() -> None:
    """Each key is listed once; rows are deleted with the user only if every key up to it cascades."""
    found = build_graph(
        1,
        [
            make_foreign_key(1, 1, "n"),
            make_foreign_key(2, 1),
            make_foreign_key(3, 2),
            make_foreign_key(2, 3),
            make_foreign_key(4, 3, "r"),
            make_foreign_key(5, 1, "n"),
            make_foreign_key(6, 5),
        ],
    )
    found_edges = {
        (edge.key.child_oid, edge.key.parent_oid): (edge.depth, edge.is_deleted_with_user, edge.can_block_deletion)
        for edge in found
    }
    assert found_edges == {
        (1, 1): (1, False, False),
        (2, 1): (1, True, False),
        (3, 2): (2, True, False),
        (2, 3): (3, True, False),
        (4, 3): (3, False, True),
        (5, 1): (1, False, False),
        (6, 5): (2, False, False),  # its parent stays
    }


async def test_foreign_keys_are_listed_at_any_depth_with_their_cost(database: str, db: Any) -> None:
    await create_tables(
        db,
        "create table chats (id serial primary key, user_id integer not null references users on delete cascade)",
        "create index on chats (user_id)",
        "create table messages (id serial primary key, chat_id integer references chats on delete cascade,"
        " parent integer references messages on delete set null)",
        "create index on messages (chat_id) where chat_id is not null",
        "create index on messages (parent) where parent > 5",  # of no use
        "create table settings (user_id integer primary key references users on delete set default)",
        "insert into chats (user_id) select 1 + n % 10 from generate_series(0, 19) as n",
        # One user has all messages: 2 chats of 300.
        "insert into messages (chat_id) select 1 + 10 * (n % 2) from generate_series(1, 600) as n",
    )
    found = await run_doctor(database, MAPPED)
    graph = {line["name"]: line for line in found.one("foreign_keys").data["foreign_keys"]}
    assert {
        name: (line["depth"], line["on_delete"], line["indexed"], line["rows"]) for name, line in graph.items()
    } == {
        "chats_user_id_fkey": (1, "cascade", True, 20),
        "settings_user_id_fkey": (1, "set default", True, 0),
        "messages_chat_id_fkey": (2, "cascade", True, 600),
        "messages_parent_fkey": (3, "set null", False, 600),
    }
    assert any("(chat_id)" in index for index in graph["messages_chat_id_fkey"]["indexes"])
    cost = found.one("deletion_cost").data
    assert (cost["tables"], cost["average_rows"], cost["most_rows"]) == (2, 62.0, 602)
    # For each deleted message PostgreSQL reads the whole table to find its children.
    assert cost["rows_read_without_index"] == 60 * 600
    assert found.one("foreign_key_without_index").data["constraints"] == ["messages_parent_fkey"]


async def test_a_large_table_without_an_index_is_a_warning_with_a_fix(database: str, db: Any) -> None:
    await create_tables(
        db,
        "create table notes (user_id integer references users on delete cascade)",
        "insert into notes select 1 + n % 10 from generate_series(1, 2000) as n",
    )
    bare = (await run_doctor(database, MAPPED)).one("foreign_key_without_index")
    assert (bare.kind, bare.data["rows"]) == ("warning", 2000)
    await apply_fix(db, bare)
    assert "foreign_key_without_index" not in (await run_doctor(database, MAPPED)).codes()


async def test_small_tables_without_an_index_are_one_note(database: str, db: Any) -> None:
    await create_tables(
        db, *(f"create table t{n} (user_id integer references users on delete cascade)" for n in range(3))
    )
    bare = (await run_doctor(database, MAPPED)).one("foreign_key_without_index")
    assert (bare.kind, bare.lines) == ("note", tuple(f"public.t{n}.user_id" for n in range(3)))
    await apply_fix(db, bare)
    assert "foreign_key_without_index" not in (await run_doctor(database, MAPPED)).codes()


@pytest.mark.parametrize("action", ["", "on delete restrict"])
async def test_a_key_that_forbids_deletions_is_reported_with_the_choices(database: str, db: Any, action: str) -> None:
    """The finding appears before a deletion fails (K2). The owner decides; no statement replaces the constraint."""
    await create_tables(
        db,
        "create table orders (id serial primary key, user_id integer not null)",
        f"alter table orders add constraint orders_of_users foreign key (user_id) references users {action}",
        "create index on orders (user_id)",
        "insert into orders (user_id) values (1), (1)",
    )
    found = (await run_doctor(database, MAPPED)).one("deletion_forbidden")
    assert found.data == {"constraint": "orders_of_users", "table": "public.orders", "depth": 1}
    assert (found.kind, found.run) == ("warning", ())
    choices = " ".join(found.do)
    assert all(word in choices for word in ('"soft"', '"anonymize"', "ON DELETE CASCADE", "orders_of_users"))


async def test_a_null_that_the_column_refuses_forbids_the_deletion(database: str, db: Any) -> None:
    """ON DELETE SET NULL cannot act on a NOT NULL column; PostgreSQL refuses the deletion."""
    await create_tables(
        db,
        "create table orders (user_id integer not null references users on delete set null, by_id integer references"
        " users on delete set null)",
        "insert into orders values (1, 2)",
    )
    found = (await run_doctor(database, MAPPED)).one("deletion_forbidden")
    assert "public.orders.user_id: on delete set null, but NOT NULL refuses the null" in found.what
    with pytest.raises(asyncpg.NotNullViolationError):
        await db.execute("delete from users where id = 1")


async def test_a_key_that_forbids_only_cascaded_rows_is_a_note(database: str, db: Any) -> None:
    """PostgreSQL checks NO ACTION last, when only rows of another user can still refer to the deleted rows."""
    await create_tables(
        db,
        "create table courses (id serial primary key, user_id integer references users on delete cascade)",
        "create table modules (course_id integer references courses,"
        " user_id integer references users on delete cascade)",
        "insert into courses (user_id) values (1), (2)",
        "insert into modules values (1, 1), (2, 3)",
    )
    assert (await run_doctor(database, MAPPED)).one("deletion_forbidden").kind == "note"
    await db.execute("delete from users where id = 1")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await db.execute("delete from users where id = 2")


async def test_a_soft_deletion_fires_no_cascade_and_leaves_rows_behind(database: str, db: Any) -> None:
    """The rows that belong to users marked as deleted are counted."""
    await create_tables(
        db,
        "create table notes (user_id integer references users on delete cascade)",
        "insert into notes values (1), (1), (2)",
        "update users set deleted_at = now() where id = 1",
    )
    soft = MAPPED.replace("[users.columns]", 'on_delete = "soft"\ndeleted_at = "deleted_at"\n[users.columns]')
    found = await run_doctor(database, soft)
    assert found.one("cascade_never_fires").data == {"rows_of_deleted_users": {"public.notes.user_id": 2}}
    assert not {"deletion_cost", "foreign_key_without_index"} & found.codes()


async def test_a_key_that_is_not_validated_is_reported_with_its_orphans(database: str, db: Any) -> None:
    await create_tables(
        db,
        "create table notes (user_id integer)",
        "create index on notes (user_id)",
        "insert into notes values (1), (77)",
        "alter table notes add foreign key (user_id) references users on delete cascade not valid",
    )
    found = (await run_doctor(database, MAPPED)).one("foreign_key_not_validated")
    listing, validation = found.run
    assert [tuple(row) for row in await db.fetch(listing)] == [(77,)]
    await db.execute("delete from notes where user_id = 77")
    await db.execute(validation)
    assert not (await run_doctor(database, MAPPED)).codes("warning")


async def test_columns_that_look_like_keys_are_counted_and_constrained(database: str, db: Any) -> None:
    """Rows without their user are counted by table; without them, the printed SQL adds the foreign keys."""
    await create_tables(
        db,
        'create table notes ("userId" integer, clerk_user_id varchar(255), title text)',
        "insert into notes values (1, 'user_1'), (2, 'user_99'), (88, null), (null, null)",
    )
    found = await run_doctor(database, MAPPED)
    orphans = {finding.data["column"]: finding for finding in found.all("orphans")}
    assert {column: (o.data["rows"], o.data["orphans"]) for column, o in orphans.items()} == {
        "userId": (3, 1),
        "clerk_user_id": (2, 1),
    }
    for finding in orphans.values():
        assert len(await db.fetch(finding.run[0])) == 1
    await db.execute("delete from notes where \"userId\" = 88 or clerk_user_id = 'user_99'")
    for finding in (await run_doctor(database, MAPPED)).all("no_foreign_key"):
        await apply_fix(db, finding)
    assert not (await run_doctor(database, MAPPED)).codes("warning")
    await db.execute("delete from users where id = 1")
    assert await db.fetchval("select count(*) from notes") == 1


async def test_a_clerk_id_beside_a_key_that_cascades_is_only_a_note(database: str, db: Any) -> None:
    """The Clerk ID is denormalised; the row is deleted with the user through the other key."""
    await create_tables(
        db,
        "create table profiles (user_id integer primary key references users on delete cascade, clerk_id text)",
        "insert into profiles values (1, 'user_1')",
    )
    found = await run_doctor(database, MAPPED)
    assert (found.one("no_foreign_key").kind, found.one("no_foreign_key").run) == ("note", ())
    assert not found.codes("warning")


async def test_a_column_beside_a_cascading_path_is_only_a_note(database: str, db: Any) -> None:
    """The row two levels below the user is deleted with the row between them."""
    await create_tables(
        db,
        "create table chats (id serial primary key, user_id integer unique references users on delete cascade)",
        "create table messages (chat_id integer primary key references chats on delete cascade, sender_id integer)",
    )
    assert (await run_doctor(database, MAPPED)).one("no_foreign_key").kind == "note"


async def test_columns_with_an_unsuitable_type_are_reported(database: str, db: Any) -> None:
    """PostgreSQL refuses `user_…` in an integer or a uuid; a short column truncates it."""
    await create_tables(
        db,
        "create table a (clerk_id integer)",
        "create table b (clerk_user_id varchar(20))",
        "create table c (author_id uuid)",
        "create table d (stripe_customer_id text, device_id uuid, user_agent text, amount integer)",
    )
    found = await run_doctor(database, MAPPED)
    kinds = {(finding.data["table"], finding.kind) for finding in found.all("type_mismatch")}
    assert kinds == {("public.a", "warning"), ("public.b", "warning")}
    for finding in found.all("type_mismatch"):
        for statement in finding.run:
            await db.execute(statement)
    left = await run_doctor(database, MAPPED)
    assert {finding.data["table"] for finding in left.all("type_mismatch")} == {"public.a"}
    assert not any("public.d" in str(finding) for finding in found)


async def test_text_keys_are_clerk_ids_and_an_integer_cannot_refer_to_them(database: str, db: Any) -> None:
    await db.execute("create table limits (user_id integer); create table notes (user_id text)")
    found = await run_doctor(database)
    assert found.one("type_mismatch").data["table"] == "public.limits"
    assert found.one("no_foreign_key").data["references"] == "public.users.id"


async def test_a_partitioned_table_is_checked_and_gets_no_unsupported_sql(database: str, db: Any) -> None:
    await create_tables(
        db,
        "create table logs (user_id integer references users, at date not null) partition by range (at)",
        "create table logs_2026 partition of logs for values from ('2026-01-01') to ('2027-01-01')",
        "insert into logs values (1, '2026-06-01')",
        "create table visits (user_id integer, at date not null) partition by range (at)",
    )
    found = await run_doctor(database, MAPPED)
    assert [line["table"] for line in found.one("foreign_keys").data["foreign_keys"]] == ["public.logs"]
    assert found.one("foreign_keys").data["foreign_keys"][0]["rows"] == 1
    for code in ("deletion_forbidden", "foreign_key_without_index", "no_foreign_key"):
        assert found.one(code).run == ()


async def test_a_count_that_takes_too_long_is_reported_as_missing(database: str, db: Any, monkeypatch: Any) -> None:
    """Neither a slow statement nor a locked table delays the doctor."""
    await create_tables(
        db,
        "create table notes (user_id integer references users on delete cascade)",
        "insert into notes select 1 from generate_series(1, 10)",
    )
    with monkeypatch.context() as patch:
        patch.setattr("sync_service.doctor.run.Counter", partial(Counter, total_timeout=0.0))
        found = await run_doctor(database, MAPPED)
    assert (
        found.one("users").what
        == "public.users: users: not counted, with a Clerk ID: not counted, without: not counted"
    )
    assert found.one("foreign_keys").lines[0].endswith("rows: not counted")
    assert found.one("deletion_cost").data["not_counted"] == ["public.notes.user_id"]
    async with db.transaction():
        await db.execute("lock table notes")
        assert (await run_doctor(database, MAPPED)).one("foreign_keys").data["foreign_keys"][0]["rows"] is None
