"""Pages of events: none is missed or repeated, and each page reads an index."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from sync_service.postgres.sql import fill_gaps, quote_literal, read_sql
from sync_service.store.event_cursor import EventPosition, decode_cursor
from sync_service.store.event_filter import STATUSES, FailurePlace, Filter, render_filter
from sync_service.store.failure_groups import list_failure_groups
from sync_service.store.summary import count_by_hour, read_summary
from tests.ops.conftest import OpsWorld

INSERT = """
insert into clerk_sync.events (id, type, clerk_id, status, reason, payload, failures, received_at, finished_at)
select
    'msg_' || n, (array['user.created', 'user.updated', 'session.ended'])[1 + n % 3], 'user_' || n % 1000, status,
    case when status = 'dead' then 'check_violation' end, '{}',
    jsonb_build_array(jsonb_build_object('at', now(), 'reason', 'check_violation', 'constraint', 'c' || n % 2)),
    $2::timestamptz - n / 10 * interval '1 ms', case when status <> 'dead' then now() end
from generate_series(1, $1) as n
cross join lateral (select case n % 100 when 0 then 'dead' when 1 then 'ignored' else 'applied' end as status) as s
"""


async def fill_inbox(db: asyncpg.Connection, events: int) -> None:
    """Insert events of the last seconds, ten of each instant, one in a hundred dead."""
    await db.execute(INSERT, events, datetime.now(UTC))
    await db.execute("analyze clerk_sync.events")


async def test_pages_miss_and_repeat_no_event_while_events_arrive_and_change(ops: OpsWorld) -> None:
    await fill_inbox(ops.db, 500)
    existing = {row["id"] for row in await ops.db.fetch("select id from clerk_sync.events")}
    seen: list[str] = []
    cursor: str | None = ""
    number = 0
    while cursor is not None:
        found = await ops.read("/ops/events", params={"limit": "37", "cursor": cursor})
        assert len(found["events"]) <= 37
        seen += [event["id"] for event in found["events"]]
        cursor = found["next_cursor"]
        number += 1
        await ops.db.execute(
            "insert into clerk_sync.events (id, type, status, finished_at) values ($1, 'x', 'ignored', now())",
            f"new_{number}",
        )
        await ops.db.execute(
            "update clerk_sync.events set status = 'failed', finished_at = null, attempts = attempts + 1,"
            " next_attempt_at = now() + interval '1 hour' where id = any($1)",
            random.Random(number).sample(sorted(existing), 50),
        )
    assert len(seen) == len(set(seen))
    assert existing <= set(seen)
    times = await ops.db.fetch("select id, received_at from clerk_sync.events where id = any($1)", seen)
    received = {row["id"]: (row["received_at"], row["id"]) for row in times}
    assert seen == sorted(seen, key=received.__getitem__, reverse=True)


async def test_the_last_page_has_no_cursor_even_if_it_is_full(ops: OpsWorld) -> None:
    await fill_inbox(ops.db, 20)
    first = await ops.read("/ops/events", params={"limit": "10"})
    second = await ops.read("/ops/events", params={"limit": "10", "cursor": first["next_cursor"]})
    assert (len(second["events"]), second["next_cursor"]) == (10, None)


async def read_nodes(db: asyncpg.Connection, sql: str, parameters: list[object]) -> set[str]:
    """Return the types of the nodes in the plan of a statement, and the indexes that it reads."""
    literals = [str(value) if isinstance(value, int) else quote_literal(str(value)) for value in parameters]
    await db.execute(f"prepare statement as {sql}")
    [plan] = json.loads(await db.fetchval(f"explain (format json) execute statement ({', '.join(literals)})"))
    await db.execute("deallocate statement")
    return set(iter_nodes(plan["Plan"]))


def iter_nodes(plan: dict[str, Any]) -> Iterator[str]:
    yield plan["Node Type"]
    yield plan.get("Index Name", "")
    for child in plan.get("Plans", []):
        yield from iter_nodes(child)


@pytest.mark.every_postgres
async def test_each_page_reads_an_index(db: asyncpg.Connection) -> None:
    """Also where no event matches, and where the plan is made without knowledge of the parameters."""
    await fill_inbox(db, 50_000)
    middle = EventPosition(datetime.now(UTC) - timedelta(seconds=2), "msg_1")
    statuses = [Filter(status=status) for status in STATUSES]
    dead = Filter(status="dead", type="user.updated", reason="check_violation", place=FailurePlace(constraint="c0"))
    others = Filter(), Filter(type="user.created"), Filter(reason="check_violation"), Filter(clerk_id="user_7")
    times = Filter(since=middle.received_at, until=datetime.now(UTC)), Filter(type="no.such.type")
    for mode in ("force_custom_plan", "force_generic_plan"):
        await db.execute(f"set plan_cache_mode = {mode}")
        for selection in (*statuses, dead, *others, *times):
            conditions, parameters = render_filter(selection, 4)
            sql = fill_gaps(read_sql("sync_service.store", "list_events.sql"), {"conditions": conditions})
            nodes = await read_nodes(db, sql, [51, middle.received_at, middle.id, *parameters])
            assert "Seq Scan" not in nodes, (mode, selection)
            assert ("events_by_status" in nodes) or selection != Filter(status="stale"), mode


async def test_figures_are_those_of_all_events(db: asyncpg.Connection) -> None:
    await fill_inbox(db, 3000)
    expected = {"applied": 2940, "stale": 0, "ignored": 30, "failed": 0, "dead": 30}
    summary = await read_summary(db)
    assert (summary.events, summary.backlog, summary.lag_seconds) == (expected, 0, 0)
    hours = await count_by_hour(db, 2)
    assert len(hours) == 2
    assert {status: sum(hour.events[status] for hour in hours) for status in expected} == expected
    groups = await list_failure_groups(db)
    # Each hundredth event is dead, so that `n % 2` is 0, and the three types follow each other.
    assert [(group.constraint, group.events, group.users) for group in groups] == [("c0", 10, 10)] * 3
    for group in groups:
        conditions, parameters = render_filter(group.filter, 1)
        rows = await db.fetch(f"select id from clerk_sync.events where {conditions} order by received_at", *parameters)
        assert len(rows) == group.events
        assert (rows[0]["id"], rows[-1]["id"]) == (group.oldest, group.newest)


@pytest.mark.parametrize("message_id", ["msg_1", "!~", "x" * 255])
def test_a_cursor_is_read_as_it_was_written(message_id: str) -> None:
    for time in (datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)):
        position = EventPosition(time, message_id)
        assert decode_cursor(position.encode()) == position


@pytest.mark.parametrize("cursor", ["", "x", "====", "MTIz", "OTk5OTk5OTk5OTk5OTk5OTk5IHg", "ä"])
def test_another_text_is_no_cursor(cursor: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        decode_cursor(cursor)
