"""A career platform: users from before Clerk, an integer key in twenty-five tables, and whose row is adopted."""

import asyncio
import json
from dataclasses import replace
from itertools import permutations
from typing import Any

import asyncpg
import pytest

from sync_service.postgres.statements import Statements
from tests.apps.shapes import CAREER, Shape
from tests.conftest import Output, Serve
from tests.world import PII_SENTINEL, T1, T2, T3, World, make_email_fields, make_event, make_message_id, wait_until

ADA = f"Ada.{PII_SENTINEL}@Example.com"  # as she typed it
VERIFIED = {"status": "verified"}


@pytest.fixture
def shape() -> Shape:
    return CAREER


def ada(user: str = "user_1", at: int = T1, *, verification: Any = VERIFIED, **data: Any) -> dict[str, Any]:
    """Return an event of somebody who has Ada's address, as Clerk writes it."""
    fields = make_email_fields("ada")
    fields["email_addresses"][0]["verification"] = verification
    return make_event("user.created", user, at, **fields, **data)


async def test_a_child_table_is_below_the_key_twenty_five_times(db: asyncpg.Connection) -> None:
    """Or more: peers have two."""
    sql = "select count(distinct conrelid) from pg_constraint where confrelid = 'users'::regclass and confdeltype = 'c'"
    assert await db.fetchval(sql) == 25


async def test_a_row_is_adopted_by_a_verified_address_in_any_case_of_letters(
    world: World, db: asyncpg.Connection, output: Output
) -> None:
    """D6: its key, the app's columns and all that hangs on it stay; Clerk's columns follow Clerk."""
    before = await db.fetchrow("select * from users where id = 101")
    assert before
    assert await world.deliver_ok(ada()) == "applied"
    row = await db.fetchrow("select * from users where clerk_user_id = 'user_1'")
    assert row
    changed = {name for name in row.keys() if row[name] != before[name]}  # noqa: SIM118  a Record is no dict
    assert changed == {"clerk_user_id", "email", "first_name", "last_name"}
    assert row["email"] == f"ada.{PII_SENTINEL}@example.com"
    assert await db.fetchval("select count(*) from users where lower(email) = lower($1)", ADA) == 1
    assert await db.fetchval("select count(*) from skills where user_id = 101") == 2
    assert output.log("rows adopted by their verified address")[0]["rows"] == 1
    assert await world.deliver_ok(
        make_event("user.updated", "user_1", T2, first_name="Augusta", **make_email_fields("ada"))
    )
    assert await db.fetchval("select first_name from users where id = 101") == "Augusta"


@pytest.mark.parametrize("verification", [None, {}, {"status": "unverified"}, {"status": "expired"}])
async def test_an_address_that_is_not_verified_adopts_nothing(
    world: World, db: asyncpg.Connection, verification: object
) -> None:
    """D6: whoever typed it need not be its owner; Ada keeps it, the newcomer has a row without."""
    before = await db.fetchrow("select * from users where id = 101")
    assert await world.deliver_ok(ada(verification=verification)) == "applied"
    assert await db.fetchrow("select * from users where id = 101") == before
    row = await world.get_user("user_1")
    assert row
    assert (row["id"] > 1000, row["email"]) == (True, None)


async def test_of_two_candidates_none_is_adopted(world: World, db: asyncpg.Connection) -> None:
    """D6: nobody can say which is meant."""
    await db.execute("drop index users_lower_email_key")
    await db.execute("insert into users (id, email) values (104, $1)", ADA.upper())
    assert await world.deliver_ok(ada()) == "applied"
    assert await db.fetchval("select count(*) from users where clerk_user_id is not null") == 1
    row = await world.get_user("user_1")
    assert row
    assert row["id"] > 1000


async def test_a_row_that_has_another_clerk_id_is_not_adopted(world: World, db: asyncpg.Connection) -> None:
    """D6, and D7: it keeps its address until an event shows that it has another."""
    await db.execute("update users set clerk_user_id = 'user_9' where id = 101")
    assert await world.deliver_ok(ada()) == "applied"
    assert await db.fetchval("select email from users where id = 101") == ADA
    row = await world.get_user("user_1")
    assert row
    assert row["email"] is None
    assert await db.fetchval("select address_wanted from clerk_sync.identities where clerk_id = 'user_1'")
    await world.deliver_ok(make_event("user.updated", "user_9", T1, **make_email_fields("other")))

    async def shown() -> bool:
        found = await world.get_user("user_1")
        return bool(found and found["email"])

    await wait_until(shown, 15)
    assert await db.fetchval("select id from users where clerk_user_id = 'user_9'") == 101


async def test_of_two_candidates_one_with_a_clerk_id_none_is_adopted(world: World, db: asyncpg.Connection) -> None:
    await db.execute("drop index users_lower_email_key")
    await db.execute("insert into users (id, email, clerk_user_id) values (104, $1, 'user_9')", ADA)
    assert await world.deliver_ok(ada()) == "applied"
    assert await db.fetchval("select clerk_user_id from users where id = 101") is None


async def test_without_linking_nothing_is_adopted(serve: Serve, db: asyncpg.Connection) -> None:
    """D6, and it is off by default."""
    async with serve(mapping=replace(CAREER.mapping, link_by_verified_email=False)) as world:
        assert await world.deliver_ok(ada()) == "applied"
        assert await db.fetchval("select clerk_user_id from users where id = 101") is None
        assert await db.fetchval("select count(*) from users") == 4
        await world.check_invariants()


async def test_a_user_who_is_known_adopts_nothing_any_more(world: World, db: asyncpg.Connection) -> None:
    """He has a row of his own, with children perhaps: two rows are never made one."""
    await world.deliver_ok(ada(verification=None))
    assert await world.deliver_ok(ada(at=T2)) == "applied"
    assert await db.fetchval("select clerk_user_id from users where id = 101") is None


async def test_a_user_who_is_gone_adopts_nothing(world: World, db: asyncpg.Connection) -> None:
    """In whatever order it is told; nor is anything deleted of a row that was never linked."""
    await world.deliver_ok(make_event("user.deleted", "user_1"))
    assert await world.deliver_ok(ada()) == "stale"
    assert await db.fetchval("select clerk_user_id from users where id = 101") is None


async def test_whatever_comes_first_adopts(world: World, db: asyncpg.Connection) -> None:
    """Every order of two updates and the creation ends in the row that was there."""
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


async def test_many_at_once_adopt_each_row_once(world: World, db: asyncpg.Connection) -> None:
    """A2 and A3 as far as webhooks go: the events of twenty users, each told four times, all at the same time."""
    for number in range(20):
        address = f"old{number}.{PII_SENTINEL}@EXAMPLE.com"
        await db.execute("insert into users (id, email) values ($1, $2)", 200 + number, address)
    bodies = [
        (make_event("user.updated", f"user_{n}", T1 + k, **make_email_fields(f"old{n}")), make_message_id())
        for k in range(4)
        for n in range(20)
    ]
    answers = await asyncio.gather(*(world.deliver(body, message_id) for body, message_id in bodies))
    assert {answer.status_code for answer in answers} == {200}
    found = await db.fetch("select id, clerk_user_id from users where clerk_user_id is not null order by id")
    assert [(row["id"], row["clerk_user_id"]) for row in found] == [(200 + n, f"user_{n}") for n in range(20)]


async def test_a_deletion_takes_an_adopted_row_and_all_that_hangs_on_it(world: World, db: asyncpg.Connection) -> None:
    await world.deliver_ok(ada())
    assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
    assert await db.fetchval("select count(*) from users where id = 101") == 0
    for table in ("profiles", "skills"):
        assert await db.fetchval(f"select count(*) from {table} where user_id = 101") == 0
        assert await db.fetchval(f"select count(*) from {table} where user_id = 102") == 1
    for table in ("conversations", "messages", "peers"):
        assert await db.fetchval(f"select count(*) from {table}") == 0


async def test_who_has_a_row_needs_nothing_that_only_the_app_can_fill(
    world: World, db: asyncpg.Connection, output: Output
) -> None:
    """E8: a password is insisted on, as before Clerk; rows that are there are adopted and updated, new ones wait."""
    await db.execute("update users set password_hash = 'hash'; alter table users alter password_hash set not null")
    message_id = make_message_id()
    answer = await world.deliver(make_event("user.created", "user_2"), message_id)
    assert answer.json() == {"outcome": "parked", "reason": "not_null_violation"}
    filed = await world.get_event(message_id)
    assert filed
    assert '"column": "password_hash"' in filed["failures"]
    answers = await asyncio.gather(*(world.deliver(ada(at=T1 + n, first_name=f"Ada {n}")) for n in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert await db.fetchval("select first_name from users where id = 101") == "Ada 4"
    assert [line for line in output.log("some users will not fit the table") if "password_hash" in line["why"]]
    await db.execute("alter table users alter password_hash drop not null")
    assert await world.deliver_ok(make_event("user.created", "user_2"), message_id) == "applied"


async def test_known_users_cost_no_look_through_the_table(db: asyncpg.Connection) -> None:
    """Without an index on lower(email), linking reads the whole table: once in each user's life, not at each event."""
    await db.execute(
        "drop index users_lower_email_key; insert into users (email) select n from generate_series(1, 5000) n"
    )
    await db.execute("analyze users; insert into clerk_sync.identities values ('user_1', 1, '', null, 'webhook')")
    statements = Statements(CAREER.mapping)
    await statements.held_against(db)
    assert statements.link
    read = []
    for user in ("user_1", "user_2"):
        plan = await db.fetchval(f"explain (analyze, format json) {statements.link}", [user], ["ada@x"], "1000")
        read.append(rows_read(json.loads(plan)[0]["Plan"]))
    known, unknown = read
    assert known <= 1  # the executor looks whether there is anything at all
    assert unknown > 5000


def rows_read(plan: dict[str, Any]) -> float:
    """Return how many rows of the app's table a plan has read."""
    here = 0.0
    if plan.get("Relation Name") == "users":
        here = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return here + sum(rows_read(part) for part in plan.get("Plans", []))


async def test_with_park_the_event_waits_for_the_address(serve: Serve, db: asyncpg.Connection) -> None:
    """`email_conflict = "park"`: nobody loses an address; told to the operators, and applied once it is free."""
    mapping = replace(CAREER.mapping, email_conflict="park", link_by_verified_email=False)
    async with serve(mapping=mapping) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
        message_id = make_message_id()
        answer = await world.deliver(make_event("user.created", "user_2", T2, **make_email_fields("e")), message_id)
        assert (answer.status_code, answer.json()) == (202, {"outcome": "parked", "reason": "email_conflict"})
        assert await world.get_user("user_2") is None
        filed = await world.get_event(message_id)
        assert filed
        assert '"column": "email"' in filed["failures"]
        await world.deliver_ok(make_event("user.updated", "user_1", T3, **make_email_fields("f")))

        async def applied() -> bool:
            found = await world.get_event(message_id)
            return bool(found and found["status"] == "applied")

        await wait_until(applied, 15)
        row = await world.get_user("user_2")
        assert row
        assert row["email"] == f"e.{PII_SENTINEL}@example.com"
        await world.check_invariants()
