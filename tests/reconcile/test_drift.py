"""A run makes the table equal to Clerk, and reports each user once."""

import asyncpg

from sync_service.mapping.toml import parse_mapping
from tests.clerk_stub import ClerkStub
from tests.reconcile.conftest import Reconcile, add_users
from tests.world import T0, T1, T2, World, make_email_fields, make_event


async def read_table(db: asyncpg.Connection) -> list[tuple[str, str]]:
    """Return each user's ID and version of the row, which changes with each write."""
    return [(row["id"], row["xmin"]) for row in await db.fetch("select id, xmin::text from users order by id")]


async def test_the_first_run_imports_all_users_and_the_second_one_writes_nothing(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """1,237 users, some without an email and some banned, in three pages and a look at the end (G1)."""
    add_users(clerk, 1237)
    first = await reconcile()
    assert first.error is None
    assert (first.users, first.missing, first.repaired, first.pages) == (1237, 1237, 1237, 3)
    rows = await read_table(db)
    assert [clerk_id for clerk_id, _ in rows] == sorted(clerk.users)
    assert await db.fetchval("select count(*) from users where email is null") == 38
    assert await db.fetchval("select count(*) from users where banned") == 13
    second = await reconcile()
    assert (second.users, second.drift, second.repaired, second.is_clean) == (1237, 0, 0, True)
    assert await read_table(db) == rows
    assert clerk.list_calls == 8
    runs = await db.fetch(
        "select mode, users, missing, finished_at is null, error from clerk_sync.reconciles order by id"
    )
    assert [tuple(run) for run in runs] == [("full", 1237, 1237, False, None), ("full", 1237, 0, False, None)]


async def test_a_week_of_lost_webhooks_is_repaired_exactly(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """30 created, 20 updated, 10 deleted and 5 pairs with swapped emails; a dry run only reports them (G5)."""
    add_users(clerk, 240)
    await reconcile()
    before = await read_table(db)
    for n in range(30):
        clerk.add_user(f"user_new_{n}", T2, created_at=T1, **make_email_fields(f"new{n}"))
    for n in range(20):
        clerk.add_user(f"user_{n:05}", T2, created_at=T0 + n // 3, first_name="Updated")
    for n in range(20, 30):
        clerk.remove_user(f"user_{n:05}")
    for n in range(40, 50, 2):
        for mine, other in ((n, n + 1), (n + 1, n)):
            clerk.add_user(f"user_{mine:05}", T2, created_at=T0 + mine // 3, **make_email_fields(f"u{other}"))
    dry = await reconcile(dry_run=True)
    assert (dry.missing, dry.stale, dry.differing, dry.deleted, dry.repaired) == (30, 30, 0, 10, 0)
    assert dry.columns["email"] == 19 + 10
    assert not dry.is_clean
    assert await read_table(db) == before
    assert await db.fetchval("select count(*) from clerk_sync.reconciles") == 1
    report = await reconcile()
    assert (report.missing, report.stale, report.deleted, report.repaired) == (30, 30, 10, 70)
    found = await db.fetch("select id, email, first_name from users order by id")
    expected = [
        (i, (user["email_addresses"] or [{"email_address": None}])[0]["email_address"], user["first_name"])
        for i, user in sorted(clerk.users.items())
    ]
    assert [tuple(row) for row in found] == expected
    assert (await reconcile()).drift == 0


async def test_rows_that_the_app_changed_or_removed_are_written_again(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """The version in `clerk_sync` is the same, so only the row itself shows the difference."""
    add_users(clerk, 9)
    await reconcile()
    await db.execute("update users set first_name = 'x', banned = true where id in ('user_00001', 'user_00002')")
    await db.execute("delete from users where id = 'user_00003'")
    report = await reconcile()
    assert (report.missing, report.stale, report.differing, report.repaired) == (1, 0, 2, 3)
    assert report.columns == {"first_name": 2, "banned": 2}
    assert await db.fetchval("select count(*) from users where first_name like 'Ada%'") == 9
    await db.execute("truncate users")
    assert (await reconcile()).missing == 9
    assert await db.fetchval("select count(*) from users") == 9


async def test_a_row_that_the_table_refuses_stops_no_other_one(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    add_users(clerk, 9)
    clerk.users["user_00004"]["banned"] = "perhaps"
    await db.execute("alter table users add constraint not_this_one check (id <> 'user_00003')")
    report = await reconcile()
    assert (report.missing, report.repaired, report.refused, report.failed) == (8, 7, 1, 1)
    assert report.finished
    assert not report.is_clean


async def test_a_deleted_user_in_an_old_page_is_not_created_again(
    reconcile: Reconcile, clerk: ClerkStub, world: World
) -> None:
    """The list of Clerk lags behind the webhook (F6)."""
    clerk.add_user("user_1")
    await world.deliver_ok(make_event("user.deleted", "user_1"))
    assert (await reconcile()).drift == 0
    assert await world.get_users() == []
    clerk.remove_user("user_1")


async def test_a_webhook_between_the_list_and_the_write_wins(
    reconcile: Reconcile, clerk: ClerkStub, world: World
) -> None:
    """G7: the update arrives after the page was read. An older version in the list never replaces it."""
    clerk.add_user("user_1", T1, first_name="from the list")
    await world.deliver_ok(make_event("user.updated", "user_1", T2, first_name="from the webhook"))
    assert (await reconcile()).drift == 0
    assert (user := await world.get_user("user_1"))
    assert user["first_name"] == "from the webhook"


async def test_a_value_that_has_become_free_is_shown_again(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """The row waits for its email, which no other row has any more. That is no drift, but it is repaired."""
    add_users(clerk, 3)
    await reconcile()
    await db.execute("update users set email = null where id = 'user_00001'")
    await db.execute("update clerk_sync.identities set email_pending = true where clerk_id = 'user_00001'")
    assert (await reconcile(dry_run=True)).drift == 0
    assert (await reconcile()).drift == 0
    assert await db.fetchval("select email is not null from users where id = 'user_00001'")
    assert not await db.fetchval("select bool_or(email_pending) from clerk_sync.identities")


async def test_the_first_import_links_rows_from_before_clerk(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """An existing row keeps its key: it belongs to the user with that external ID, or with the same verified email."""
    await db.execute("create table people (id text primary key, clerk text unique, mail text unique, name text)")
    await db.execute(
        "insert into people values ('p1', null, null, 'a'), ('p2', null, $$u2.PII_SENTINEL@example.com$$, '')"
    )
    mapping = parse_mapping(
        '[users]\ntable = "people"\nclerk_id = "clerk"\nlink_by_external_id = true\nlink_by_verified_email = true\n'
        '[users.columns]\nid = { generate = "uuid7" }\nmail = "primary_email"\nname = "first_name"\n'
    )
    add_users(clerk, 4)
    clerk.users["user_00001"]["external_id"] = "p1"
    dry = await reconcile(mapping=mapping, dry_run=True)
    assert (dry.missing, dry.deleted) == (4, 0)
    assert (await reconcile(mapping=mapping)).is_clean
    rows = await db.fetch("select id, clerk from people where length(id) = 2 order by id")
    assert [tuple(row) for row in rows] == [("p1", "user_00001"), ("p2", "user_00002")]
    assert await db.fetchval("select count(*) from people") == 4
    assert (await reconcile(mapping=mapping)).drift == 0
