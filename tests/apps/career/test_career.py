"""A career platform: users older than Clerk, an integer key in 25 tables, and rows linked by verified email."""

import asyncio
import json
from dataclasses import replace
from itertools import permutations
from typing import Any

import asyncpg
import pytest

from sync_service.mapping.table_binding import TableBinding
from tests.apps.shapes import CAREER, Shape
from tests.conftest import Output, Serve
from tests.world import PII_SENTINEL, T1, T2, T3, World, make_email_fields, make_event, make_message_id, wait_until

ADA = f"Ada.{PII_SENTINEL}@Example.com"  # the spelling in the existing row
VERIFIED = {"status": "verified"}


@pytest.fixture
def shape() -> Shape:
    return CAREER


def make_ada(user: str = "user_1", at: int = T1, *, verification: Any = VERIFIED, **data: Any) -> dict[str, Any]:
    """Return an event of a user with Ada's email in Clerk's spelling."""
    fields = make_email_fields("ada")
    fields["email_addresses"][0]["verification"] = verification
    return make_event("user.created", user, at, **fields, **data)


async def test_25_child_tables_refer_to_the_key(db: asyncpg.Connection) -> None:
    """The count is of tables, since `peers` has two foreign keys."""
    sql = "select count(distinct conrelid) from pg_constraint where confrelid = 'users'::regclass and confdeltype = 'c'"
    assert await db.fetchval(sql) == 25


async def test_a_row_is_linked_by_a_verified_email_in_any_case(
    world: World, db: asyncpg.Connection, output: Output
) -> None:
    """The key, the app's columns and the child rows stay, and Clerk's columns follow Clerk (D6)."""
    before = await db.fetchrow("select * from users where id = 101")
    assert before
    assert await world.deliver_ok(make_ada()) == "applied"
    row = await db.fetchrow("select * from users where clerk_user_id = 'user_1'")
    assert row
    changed = {name for name in row.keys() if row[name] != before[name]}  # noqa: SIM118  a Record is no dict
    assert changed == {"clerk_user_id", "email", "first_name", "last_name"}
    assert row["email"] == f"ada.{PII_SENTINEL}@example.com"
    assert await db.fetchval("select count(*) from users where lower(email) = lower($1)", ADA) == 1
    assert await db.fetchval("select count(*) from skills where user_id = 101") == 2
    assert output.log("rows_linked")[0]["rows"] == 1
    assert await world.deliver_ok(
        make_event("user.updated", "user_1", T2, first_name="Augusta", **make_email_fields("ada"))
    )
    assert await db.fetchval("select first_name from users where id = 101") == "Augusta"


@pytest.mark.parametrize("verification", [None, {}, {"status": "unverified"}, {"status": "expired"}])
async def test_an_unverified_email_links_no_row(world: World, db: asyncpg.Connection, verification: object) -> None:
    """An unverified email may belong to another person: the row keeps it, and the new user's email is NULL (D6)."""
    before = await db.fetchrow("select * from users where id = 101")
    assert await world.deliver_ok(make_ada(verification=verification)) == "applied"
    assert await db.fetchrow("select * from users where id = 101") == before
    row = await world.get_user("user_1")
    assert row
    assert (row["id"] > 1000, row["email"]) == (True, None)


async def test_of_two_candidates_none_is_linked(world: World, db: asyncpg.Connection) -> None:
    """With two rows of the same email the intended one is unknown (D6)."""
    await db.execute("drop index users_lower_email_key")
    await db.execute("insert into users (id, email) values (104, $1)", ADA.upper())
    assert await world.deliver_ok(make_ada()) == "applied"
    assert await db.fetchval("select count(*) from users where clerk_user_id is not null") == 1
    row = await world.get_user("user_1")
    assert row
    assert row["id"] > 1000


async def test_a_row_with_another_clerk_id_is_not_linked(world: World, db: asyncpg.Connection) -> None:
    """It keeps its email until an event for its user shows another one (D6, D7)."""
    await db.execute("update users set clerk_user_id = 'user_9' where id = 101")
    assert await world.deliver_ok(make_ada()) == "applied"
    assert await db.fetchval("select email from users where id = 101") == ADA
    row = await world.get_user("user_1")
    assert row
    assert row["email"] is None
    assert await db.fetchval("select email_pending from clerk_sync.identities where clerk_id = 'user_1'")
    await world.deliver_ok(make_event("user.updated", "user_9", T1, **make_email_fields("other")))

    async def has_email() -> bool:
        found = await world.get_user("user_1")
        return bool(found and found["email"])

    await wait_until(has_email, 15)
    assert await db.fetchval("select id from users where clerk_user_id = 'user_9'") == 101


async def test_a_candidate_with_a_clerk_id_prevents_the_link(world: World, db: asyncpg.Connection) -> None:
    await db.execute("drop index users_lower_email_key")
    await db.execute("insert into users (id, email, clerk_user_id) values (104, $1, 'user_9')", ADA)
    assert await world.deliver_ok(make_ada()) == "applied"
    assert await db.fetchval("select clerk_user_id from users where id = 101") is None


async def test_without_the_setting_no_row_is_linked(serve: Serve, db: asyncpg.Connection) -> None:
    """Linking is off by default; the new user gets a row without the email (D6)."""
    async with serve(mapping=replace(CAREER.mapping, link_by_verified_email=False)) as world:
        assert await world.deliver_ok(make_ada()) == "applied"
        assert await db.fetchval("select clerk_user_id from users where id = 101") is None
        assert await db.fetchval("select count(*) from users") == 4
        await world.check_invariants()


async def test_a_known_user_is_not_linked_later(world: World, db: asyncpg.Connection) -> None:
    """The user has a row of its own, perhaps with child rows, and two rows are never merged."""
    await world.deliver_ok(make_ada(verification=None))
    assert await world.deliver_ok(make_ada(at=T2)) == "applied"
    assert await db.fetchval("select clerk_user_id from users where id = 101") is None


async def test_a_deleted_user_is_not_linked(world: World, db: asyncpg.Connection) -> None:
    """The order of the events does not matter, and a row that was never linked is not deleted."""
    await world.deliver_ok(make_event("user.deleted", "user_1"))
    assert await world.deliver_ok(make_ada()) == "stale"
    assert await db.fetchval("select clerk_user_id from users where id = 101") is None


async def test_the_first_event_links_the_row(world: World, db: asyncpg.Connection) -> None:
    """Every order of the creation and two updates ends in the existing row."""
    for number, order in enumerate(permutations(range(3))):
        user, key, local = f"user_{number}", 200 + number, f"old{number}"
        await db.execute("insert into users (id, email) values ($1, $2)", key, f"{local}.{PII_SENTINEL}@EXAMPLE.com")
        steps = [
            make_event("user.created", user, T1, **make_email_fields(local)),
            make_event("user.updated", user, T2, first_name="Second", **make_email_fields(local)),
            make_event("user.updated", user, T3, first_name="Third", **make_email_fields(local)),
        ]
        for step in order:
            await world.deliver_ok(steps[step])
        row = await world.get_user(user)
        assert row
        assert (row["id"], row["first_name"]) == (key, "Third")
    assert await db.fetchval("select count(*) from users") == 9


async def test_concurrent_events_link_each_row_once(world: World, db: asyncpg.Connection) -> None:
    """Four concurrent events for each of twenty users link each row exactly once (A2, A3 for webhooks)."""
    for number in range(20):
        email = f"old{number}.{PII_SENTINEL}@EXAMPLE.com"
        await db.execute("insert into users (id, email) values ($1, $2)", 200 + number, email)
    bodies = [
        (make_event("user.updated", f"user_{n}", T1 + k, **make_email_fields(f"old{n}")), make_message_id())
        for k in range(4)
        for n in range(20)
    ]
    responses = await asyncio.gather(*(world.deliver(body, message_id) for body, message_id in bodies))
    assert {response.status_code for response in responses} == {200}
    found = await db.fetch("select id, clerk_user_id from users where clerk_user_id is not null order by id")
    assert [(row["id"], row["clerk_user_id"]) for row in found] == [(200 + n, f"user_{n}") for n in range(20)]


async def test_a_deletion_cascades_from_a_linked_row(world: World, db: asyncpg.Connection) -> None:
    await world.deliver_ok(make_ada())
    assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
    assert await db.fetchval("select count(*) from users where id = 101") == 0
    for table in ("profiles", "skills"):
        assert await db.fetchval(f"select count(*) from {table} where user_id = 101") == 0
        assert await db.fetchval(f"select count(*) from {table} where user_id = 102") == 1
    for table in ("conversations", "messages", "peers"):
        assert await db.fetchval(f"select count(*) from {table}") == 0


async def test_an_existing_row_needs_no_column_that_only_the_app_fills(
    world: World, db: asyncpg.Connection, output: Output
) -> None:
    """With a NOT NULL password, existing rows are linked and updated, and new users are parked (E8)."""
    await db.execute("update users set password_hash = 'hash'; alter table users alter password_hash set not null")
    message_id = make_message_id()
    response = await world.deliver(make_event("user.created", "user_2"), message_id)
    assert response.json() == {"outcome": "parked", "reason": "not_null_violation"}
    stored = await world.get_event(message_id)
    assert stored
    assert '"column": "password_hash"' in stored["failures"]
    responses = await asyncio.gather(*(world.deliver(make_ada(at=T1 + n, first_name=f"Ada {n}")) for n in range(5)))
    assert {response.status_code for response in responses} == {200}
    assert await db.fetchval("select first_name from users where id = 101") == "Ada 4"
    assert [line for line in output.log("mapping_warning") if "password_hash" in line["warning"]]
    await db.execute("alter table users alter password_hash drop not null")
    assert await world.deliver_ok(make_event("user.created", "user_2"), message_id) == "applied"


async def test_known_users_cause_no_table_scan(db: asyncpg.Connection) -> None:
    """Without an index on lower(email), linking scans the table once per user, not once per event."""
    await db.execute(
        "drop index users_lower_email_key; insert into users (email) select n from generate_series(1, 5000) n"
    )
    await db.execute("analyze users; insert into clerk_sync.identities values ('user_1', 1, '', null, 'webhook')")
    statement = (await TableBinding(CAREER.mapping).ensure_bound(db)).link_rows
    assert statement
    read = []
    for user in ("user_1", "user_2"):
        plan = await db.fetchval(f"explain (analyze, format json) {statement}", [user], ["ada@x"], "1000", "webhook")
        read.append(count_rows_read(json.loads(plan)[0]["Plan"]))
    known, unknown = read
    assert known <= 3  # each of three steps reads one row to see whether the table is empty
    assert unknown > 5000


def count_rows_read(plan: dict[str, Any]) -> float:
    """Return the number of rows of the app's table that a plan has read."""
    here = 0.0
    if plan.get("Relation Name") == "users":
        here = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return here + sum(count_rows_read(part) for part in plan.get("Plans", []))


async def test_with_park_the_event_waits_for_the_email(serve: Serve, db: asyncpg.Connection) -> None:
    """`email_conflict = "park"`: the failure names the column, and the event is applied once the email is free."""
    mapping = replace(CAREER.mapping, email_conflict="park", link_by_verified_email=False)
    async with serve(mapping=mapping) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
        message_id = make_message_id()
        response = await world.deliver(make_event("user.created", "user_2", T2, **make_email_fields("e")), message_id)
        assert (response.status_code, response.json()) == (202, {"outcome": "parked", "reason": "email_conflict"})
        assert await world.get_user("user_2") is None
        stored = await world.get_event(message_id)
        assert stored
        assert '"column": "email"' in stored["failures"]
        await world.deliver_ok(make_event("user.updated", "user_1", T3, **make_email_fields("f")))

        async def is_applied() -> bool:
            found = await world.get_event(message_id)
            return bool(found and found["status"] == "applied")

        await wait_until(is_applied, 15)
        row = await world.get_user("user_2")
        assert row
        assert row["email"] == f"e.{PII_SENTINEL}@example.com"
        await world.check_invariants()
