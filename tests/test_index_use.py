"""Statements of every login and of every maintenance round use an index, whatever the size of the tables."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table_binding import TableBinding
from sync_service.store import deliveries, feed, retry_queue
from sync_service.store.event_filter import Filter
from sync_service.store.events import _LIST, _render

pytestmark = pytest.mark.every_postgres

ID_TYPES = ["text", "varchar(64)", "char(40)", "citext"]
USER_ID = "user_" + "x" * 26
OTHER_CASE = USER_ID.upper()


async def find_sequential_scans(db: asyncpg.Connection, sql: str, *parameters: str) -> list[str]:
    """Return the tables that the generic plan of the statement scans."""
    await db.execute("set plan_cache_mode = force_generic_plan")
    await db.execute(f"prepare statement as {sql}")
    arguments = f"({', '.join(parameters)})" if parameters else ""
    [plan] = json.loads(await db.fetchval(f"explain (format json) execute statement {arguments}"))
    await db.execute("deallocate statement")
    return list(_scans(plan["Plan"]))


def _scans(plan: dict[str, Any]) -> list[str]:
    own = [plan["Relation Name"]] if plan["Node Type"] == "Seq Scan" else []
    return own + [name for child in plan.get("Plans", []) for name in _scans(child)]


async def create_user_table(db: asyncpg.Connection, id_type: str) -> TableBinding:
    await db.execute("create extension if not exists citext")
    await db.execute(f"create table people (id bigserial primary key, clerk_id {id_type} unique, email text unique)")
    await db.execute("insert into people (clerk_id) select 'user_' || n from generate_series(1, 20000) as n")
    await db.execute("insert into people (clerk_id) values ($1)", USER_ID)
    await db.execute("create index on people (lower(email)); analyze people")
    columns = {"email": DEFAULT.columns["email"]}
    return TableBinding(
        replace(
            DEFAULT,
            table="people",
            id_column="clerk_id",
            columns=columns,
            link_by_verified_email=True,
            link_by_external_id=True,
        )
    )


@pytest.mark.parametrize("id_type", ID_TYPES)
async def test_lookups_use_the_index_of_the_clerk_id(db: asyncpg.Connection, id_type: str) -> None:
    binding = await create_user_table(db, id_type)
    queries = await binding.ensure_bound(db)
    for sql in (binding.lookups.row, binding.lookups.user_state):
        assert "people" not in await find_sequential_scans(db, sql, f"'{USER_ID}'")
    assert "people" not in await find_sequential_scans(db, queries.resolve_keys, f"array['{USER_ID}']")
    assert "people" not in await find_sequential_scans(db, queries.restore_user, f"'{USER_ID}'")
    claim, row = queries.claims[0], """'{"email": "e"}'"""
    assert "people" not in await find_sequential_scans(db, claim.release, f"'{USER_ID}'", "'e'")
    assert "people" not in await find_sequential_scans(db, claim.restore, f"'{USER_ID}'", row)
    assert "people" not in await find_sequential_scans(db, claim.find_holder, row, f"'{USER_ID}'")
    assert queries.link_rows
    linked = f"array['{USER_ID}']", "array['e']", "'300'", "'webhook'"
    assert "people" not in await find_sequential_scans(db, queries.link_rows, *linked)
    assert queries.link_rows_by_key
    linked = f"array['{USER_ID}']", "array['1']", "'300'", "'webhook'"
    assert "people" not in await find_sequential_scans(db, queries.link_rows_by_key, *linked)


@pytest.mark.parametrize("id_type", ID_TYPES)
async def test_lookups_find_the_user_and_no_other_case(db: asyncpg.Connection, id_type: str) -> None:
    binding = await create_user_table(db, id_type)
    queries = await binding.ensure_bound(db)
    for clerk_id, is_there in ((USER_ID, True), (OTHER_CASE, False)):
        assert bool(await db.fetchval(binding.lookups.row, clerk_id)) is is_there
        state = await db.fetchrow(binding.lookups.user_state, clerk_id)
        assert state
        assert bool(state["row"]) is is_there
        [key] = await db.fetch(queries.resolve_keys, [clerk_id])
        assert bool(key["key"]) is is_there


@pytest.mark.parametrize("sql", [retry_queue._PRUNE_PAYLOADS, retry_queue._PRUNE_ROWS], ids=["payloads", "rows"])
async def test_retention_uses_an_index(db: asyncpg.Connection, sql: str) -> None:
    """The generic plan, too, which does not know that few rows are old enough."""
    await db.execute("""
        insert into clerk_sync.events (id, type, status, payload, finished_at)
        select 'msg_' || n, 'user.updated', 'applied', case when n % 2 = 0 then '{}'::jsonb end, now()
        from generate_series(1, 50000) as n
    """)
    await db.execute("analyze clerk_sync.events")
    assert await find_sequential_scans(db, sql, "1000", "interval '30 days'") == []


async def test_a_list_of_events_uses_an_index(db: asyncpg.Connection) -> None:
    """Also that of a rare type, and of one user."""
    await db.execute("""
        insert into clerk_sync.events (id, type, clerk_id, status, payload, received_at, finished_at)
        select
            'msg_' || n, case when n % 10000 = 0 then 'user.deleted' else 'user.updated' end, 'user_' || n % 5000,
            'applied', '{}', now() - n * interval '1 second', now()
        from generate_series(1, 50000) as n
    """)
    await db.execute("vacuum analyze clerk_sync.events")
    for selection, index in (
        (Filter(), "events_by_time"),
        (Filter(type="user.updated"), "events_by_time"),
        (Filter(type="user.deleted"), "events_by_rare_type"),
        (Filter(clerk_id="user_1"), "events_by_user"),
    ):
        sql, parameters = _render(_LIST, selection, first=4)
        plan = await db.fetchval(f"explain (format json) {sql}", 100, None, "", *parameters)
        assert f'"{index}"' in plan, (selection, plan)


async def test_retention_still_finds_old_events(db: asyncpg.Connection) -> None:
    await db.execute("""
        insert into clerk_sync.events (id, type, status, payload, received_at, finished_at)
        select 'msg_' || n, 'user.updated', 'applied', '{}', now() - n * interval '1 day', now() - n * interval '1 day'
        from generate_series(1, 200) as n
    """)
    assert await retry_queue.prune(db, timedelta(days=30), 1000) > 0
    assert await db.fetchval("select count(*) from clerk_sync.events where payload is not null") == 29
    await retry_queue.prune(db, timedelta(days=30), 1000)
    assert await db.fetchval("select count(*) from clerk_sync.events") == 119


AFTER, LIMIT = ("'1'", "1"), "100"
CHANGES = {
    "read": (feed._READ, (*AFTER, LIMIT, "'9999999'", "50000")),
    "adopt": (feed._ADOPT, ()),
    "prune": (feed._PRUNE, ("1000", "interval '30 days'")),
    "claim": (deliveries._CLAIM, ("64", "interval '60 s'")),
    "until attempt": (deliveries._UNTIL_ATTEMPT, ()),
    "store": (deliveries._STORE, ("array['1']", "array[1]", "array['failed']", "array['x']", "array[interval '5 s']")),
    "count failed": (deliveries._COUNT_FAILED, ()),
    "list of a user": (deliveries._LIST_OF_USER, (LIMIT, "'user_1'")),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_the_feed_and_its_deliveries_use_indexes(db: asyncpg.Connection, name: str) -> None:
    """They read no more rows than they need, and sort none."""
    await db.execute("""
        insert into clerk_sync.changes (transaction_id, type, clerk_id, delivery)
        select (n / 100)::text::xid8, 'user.updated', 'user_' || n, 'delivered' from generate_series(1, 50000) as n
    """)
    await db.execute("analyze clerk_sync.changes")
    sql, parameters = CHANGES[name]
    assert await find_sequential_scans(db, sql, *parameters) == []
