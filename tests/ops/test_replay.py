"""Replays over HTTP: one event, many, and the preview that shows the same change without making it."""

import asyncio
import json
from typing import Any

import asyncpg

from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.toml import parse_mapping
from sync_service.store.event_filter import Filter
from sync_service.store.events import count_events
from sync_service.sync.replay import begin_bulk
from sync_service.web.components import MAX_OPS_CONNECTIONS
from sync_service.web.limits import TimeLimits
from tests.ops.conftest import OpsWorld, ServeOps, hold_retries
from tests.problems import read_problem_code
from tests.world import T1, T2, T3, count_lock_waiters, make_email_fields, make_event, make_message_id, wait_until

TABLES = ("users", "clerk_sync.events", "clerk_sync.identities", "clerk_sync.deletion_marks", "clerk_sync.audit")


async def dump(db: asyncpg.Connection) -> list[Any]:
    """Return all rows that a replay may change."""
    return [await db.fetch(f"select * from {table} as t order by t::text") for table in TABLES]


async def preview_and_replay(ops: OpsWorld, message_id: str, clerk_id: str, status: int = 200) -> dict[str, Any]:
    """Preview a replay, make it, compare both, and return the preview."""
    before, tables = await ops.get_user(clerk_id), await dump(ops.db)
    preview: dict[str, Any] = await ops.replay(message_id, dry_run="true")
    assert set(preview) == {"outcome", "reason", "changes", "row"}
    assert await dump(ops.db) == tables
    done = await ops.replay(message_id, status)
    assert done == {"outcome": preview["outcome"], "reason": preview["reason"]}
    after = await ops.get_user(clerk_id)
    assert preview["changes"] == compare(before, after)
    kinds = {(False, False): "none", (False, True): "insert", (True, False): "delete"}
    kind = kinds.get((before is not None, after is not None), "none" if before == after else "update")
    assert preview["row"] == kind
    return preview


def compare(before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, list[Any]]:
    """Return the columns that differ; each column of a row that is gone."""
    old, new = before or {}, after or {}
    is_gone = before is not None and after is None
    pairs = {name: [old.get(name), new.get(name)] for name in {**old, **new}}
    return {name: pair for name, pair in pairs.items() if is_gone or pair[0] != pair[1]}


async def add_trigger(db: asyncpg.Connection) -> None:
    await db.execute("""
        alter table users add column seen integer not null default 0;
        create function count_writes() returns trigger language plpgsql as
            $$ begin new.seen = new.seen + 10; return new; end $$;
        create trigger counted before insert or update on users for each row execute function count_writes()
    """)


async def test_an_insert_and_an_update_are_previewed_with_the_work_of_a_trigger(ops: OpsWorld) -> None:
    await add_trigger(ops.db)
    created = await ops.park(make_event("user.created", "user_1", T1))
    assert (await preview_and_replay(ops, created, "user_1"))["changes"]["seen"] == [None, 10]
    updated = await ops.park(make_event("user.updated", "user_1", T2, first_name="New", **make_email_fields("e")))
    preview = await preview_and_replay(ops, updated, "user_1")
    assert preview["outcome"] == "applied"
    assert preview["changes"]["seen"] == [10, 20]
    assert preview["changes"]["first_name"][1] == "New"
    assert set(preview["changes"]) == {"first_name", "email", "email_verified", "seen", "updated_at"}


async def test_a_stale_event_changes_nothing(ops: OpsWorld) -> None:
    old = await ops.park(make_event("user.updated", "user_1", T1))
    await ops.deliver_ok(make_event("user.updated", "user_1", T2))
    preview = await preview_and_replay(ops, old, "user_1")
    assert preview == {"outcome": "stale", "reason": None, "changes": {}, "row": "none"}


async def test_a_refused_change_is_previewed_with_its_reason(ops: OpsWorld) -> None:
    """Also where the table checks a constraint only at the commit."""
    message_id = await ops.park(make_event("user.created", "user_1"))
    await ops.db.execute("""
        create table regions (name text primary key);
        alter table users add column region text default 'none' references regions deferrable initially deferred
    """)
    preview = await preview_and_replay(ops, message_id, "user_1", 202)
    assert preview == {"outcome": "parked", "reason": "foreign_key_violation", "changes": {}, "row": "none"}
    assert (await ops.read(f"/ops/events/{message_id}"))["attempts"] == 2


async def test_an_email_that_another_row_gives_up_is_previewed(ops: OpsWorld) -> None:
    message_id = await ops.park(make_event("user.updated", "user_2", T3, **make_email_fields("same")))
    await ops.deliver_ok(make_event("user.updated", "user_1", T1, **make_email_fields("same")))
    preview = await preview_and_replay(ops, message_id, "user_2")
    assert preview["changes"]["email"][1] is not None
    loser = await ops.get_user("user_1")
    assert loser
    assert loser["email"] is None


async def test_a_deletion_is_previewed_as_null_in_each_column(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1"))
    await ops.db.execute("create table orders (user_id text references users); insert into orders values ('user_1')")
    deleted = make_message_id()
    assert (await ops.deliver(make_event("user.deleted", "user_1"), deleted)).json()["outcome"] == "parked"
    await hold_retries(ops.db)
    refused = await preview_and_replay(ops, deleted, "user_1", 202)
    assert refused == {"outcome": "parked", "reason": "foreign_key_violation", "changes": {}, "row": "none"}
    await ops.db.execute("drop table orders")
    preview = await preview_and_replay(ops, deleted, "user_1")
    assert preview["row"] == "delete"
    assert {new for _, new in preview["changes"].values()} == {None}
    assert set(preview["changes"]) >= set(DEFAULT.columns)


async def test_a_deferred_deletion_is_previewed_as_its_mark(serve_ops: ServeOps, db: asyncpg.Connection) -> None:
    text = 'preset = "text_id"\n[users]\non_delete = "soft"\ndeleted_at = "deleted_at"\ndelete_grace = "1d"\n'
    await db.execute("alter table users add column deleted_at timestamptz")
    async with serve_ops(mapping=parse_mapping(text)) as ops:
        await ops.deliver_ok(make_event("user.created", "user_1"))
        await ops.deliver_ok(make_event("user.deleted", "user_1"), "msg_deleted")
        preview = await preview_and_replay(ops, "msg_deleted", "user_1", 202)
        assert (preview["outcome"], preview["reason"], preview["row"]) == ("parked", "delete_grace", "none")


async def test_events_that_change_no_user_are_previewed(ops: OpsWorld) -> None:
    await ops.deliver_ok({"type": "organization.created", "data": {}, "object": "event"}, "msg_ignored")
    preview = await preview_and_replay(ops, "msg_ignored", "user_1")
    assert preview == {"outcome": "ignored", "reason": None, "changes": {}, "row": "none"}
    unreadable = make_event("user.created", "user_1")
    unreadable["data"]["updated_at"] = "soon"
    await ops.deliver(unreadable, "msg_unreadable")
    preview = await preview_and_replay(ops, "msg_unreadable", "user_1", 202)
    assert (preview["outcome"], preview["reason"]) == ("parked", "unreadable_user")


async def test_an_event_without_its_payload_is_a_duplicate(ops: OpsWorld) -> None:
    """Retention has removed the payload, so that only its outcome is known."""
    await ops.deliver_ok(make_event("user.created", "user_1"), "msg_old")
    await ops.db.execute("update clerk_sync.events set payload = null")
    assert (await preview_and_replay(ops, "msg_old", "user_1"))["outcome"] == "duplicate"
    assert await ops.act("/ops/replay", json={"status": "applied"}) == {"dry_run": False, "outcomes": {}}


async def test_numbers_are_exact_in_a_preview(ops: OpsWorld) -> None:
    await ops.db.execute("alter table users add column big bigint default 9007199254740993, add precise numeric")
    await ops.db.execute("alter table users alter precise set default 0.1234567890123456789")
    message_id = await ops.park(make_event("user.created", "user_1"))
    response = await ops.ops("POST", f"/ops/events/{message_id}/replay?dry_run=true")
    assert response.json()["changes"]["big"] == [None, "9007199254740993"]
    assert '"precise":[null,0.1234567890123456789]' in response.text


async def test_dead_events_are_replayed_once_the_table_is_repaired(ops: OpsWorld) -> None:
    """The preview has the same counts, a poison event stops no other, and a second replay finds no dead event (G8)."""
    ids = [await ops.park(make_event("user.created", f"user_{number}")) for number in range(10)]
    await ops.db.execute("update clerk_sync.events set status = 'dead', next_attempt_at = null")
    await ops.db.execute("alter table users add constraint poison check (id <> 'user_3')")
    tables = await dump(ops.db)
    expected = {"applied": 9, "parked": 1}
    preview = await ops.act("/ops/replay", json={"status": "dead", "dry_run": True})
    assert preview == {"dry_run": True, "outcomes": expected}
    assert await dump(ops.db) == tables
    assert await ops.act("/ops/replay", json={"status": "dead"}) == {"dry_run": False, "outcomes": expected}
    await hold_retries(ops.db)
    assert await ops.act("/ops/replay", json={"status": "dead"}) == {"dry_run": False, "outcomes": {}}
    assert await ops.db.fetchval("select min(attempts) from clerk_sync.events") == 2
    assert (await ops.read(f"/ops/events/{ids[3]}"))["status"] == "failed"
    await ops.db.execute("alter table users drop constraint poison")
    done = await ops.act("/ops/replay", json={"reason": "check_violation", "type": "user.created", "since": None})
    assert done["outcomes"] == {"applied": 1}
    assert await ops.db.fetchval("select count(*) from users") == 10
    kept = await ops.db.fetch("select clerk_id, payload ->> 'id' as id from clerk_sync.events")
    assert all(row["clerk_id"] == row["id"] for row in kept)


async def test_a_bulk_replay_leaves_out_events_that_arrive_meanwhile(ops: OpsWorld) -> None:
    """Else it would not end while webhooks arrive."""
    await ops.park(make_event("user.created", "user_1"))
    count, bounded = await begin_bulk(ops.db, Filter(type="user.created"), None)
    await ops.park(make_event("user.created", "user_2"))
    assert [count, (await count_events(ops.db, bounded))[0]] == [1, 1]
    assert (await count_events(ops.db, Filter(type="user.created")))[0] == 2


async def test_the_next_page_is_read_while_one_is_applied(ops: OpsWorld, database: str) -> None:
    """Pages have 100 events. The first one waits for a lock, and the second one is there already."""
    await ops.deliver_ok(make_event("user.created", "user_001"))
    await ops.db.execute(_MANY_EVENTS)
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("select from clerk_sync.identities where clerk_id = 'user_001' for update")
        replay = asyncio.create_task(ops.act("/ops/replay", json={"type": "user.created"}))
        await wait_until(lambda: count_lock_waiters(ops.db))
        await wait_until(lambda: ops.db.fetchval(_READS_A_PAGE))
        assert await count_lock_waiters(ops.db) == 1
    await other.close()
    assert (await replay)["outcomes"] == {"applied": 101}


_MANY_EVENTS = """
insert into clerk_sync.events (id, type, clerk_id, status, payload, finished_at)
select 'msg_' || name, 'user.created', name, 'applied', jsonb_set(payload, '{id}', to_jsonb(name)), now()
from (select 'user_' || n as name from generate_series(101, 200) as n) as names, clerk_sync.events
"""

# The last statement of an idle session.
_READS_A_PAGE = """
select exists (
    select from pg_stat_activity
    where datname = current_database() and state = 'idle' and query like '-- One page of the events that a replay%'
)
"""


async def test_a_replay_whose_time_is_over_says_where_it_stopped(serve_ops: ServeOps, db: asyncpg.Connection) -> None:
    """With no time at all it makes no progress, and its answer is the time of the first event."""
    async with serve_ops(limits=TimeLimits(body=60, apply=60, response=60, bulk_replay=-1)) as ops:
        await ops.park(make_event("user.created", "user_1"))
        done = await ops.act("/ops/replay", json={"status": "failed"})
        received_at = await db.fetchval("select received_at from clerk_sync.events")
        assert done["outcomes"] == {}
        again = {"status": "failed", "since": done["continue_since"], "dry_run": True}
        assert done["continue_since"] == received_at.isoformat().replace("+00:00", "Z")
    async with serve_ops() as ops:
        assert (await ops.act("/ops/replay", json=again))["outcomes"] == {"applied": 1}


REFUSED_BODIES = (
    "",
    "{}",
    "[]",
    "null",
    '"dead"',
    '{"status": "dead"',
    '{"dry_run": true}',
    '{"status": null}',
    '{"status": "parked"}',
    '{"status": ["dead"]}',
    '{"status": ""}',
    '{"type": 5}',
    '{"type": "\\u0000"}',
    '{"status": "dead", "dry_run": "true"}',
    '{"status": "dead", "dry_run": null}',
    '{"status": "dead", "dryrun": true}',
    '{"since": "yesterday"}',
    '{"since": 1769860800}',
    '{"until": "2026-01-31T12:00:00"}',
)


async def test_a_bulk_replay_without_a_clear_filter_is_refused(ops: OpsWorld) -> None:
    message_id = await ops.park(make_event("user.created", "user_1"))
    for body in REFUSED_BODIES:
        response = await ops.ops("POST", "/ops/replay", content=body)
        assert (response.status_code, read_problem_code(response)) == (400, "bad_request"), body
    assert (await ops.read(f"/ops/events/{message_id}"))["attempts"] == 1
    assert await ops.read_audit() == []


async def test_a_dry_run_that_is_not_clear_replays_nothing(ops: OpsWorld) -> None:
    message_id = await ops.park(make_event("user.created", "user_1"))
    for query in ("dry_run=", "dry_run=1", "dry_run=True", "dryrun=true", "dry_run=true&dry_run=false"):
        response = await ops.ops("POST", f"/ops/events/{message_id}/replay?{query}")
        assert (response.status_code, read_problem_code(response)) == (400, "bad_request"), query
    response = await ops.ops("POST", f"/ops/events/{message_id}/replay", json={"dry_run": True})
    assert (response.status_code, read_problem_code(response)) == (400, "bad_request")
    assert await ops.get_user("user_1") is None


async def test_a_locked_row_keeps_operators_waiting_and_no_webhook(
    serve_ops: ServeOps, db: asyncpg.Connection, database: str
) -> None:
    """Operators use two connections. A preview that waits too long is undone, and the event stays as it is."""
    async with serve_ops(limits=TimeLimits(body=60, apply=60, response=1)) as ops:
        await ops.deliver_ok(make_event("user.created", "user_1", T1))
        message_id = await ops.park(make_event("user.updated", "user_1", T2))
        other = await asyncpg.connect(database)
        async with other.transaction():
            await other.execute("select from users where id = 'user_1' for update")
            dry_runs = [
                asyncio.create_task(ops.ops("POST", f"/ops/events/{message_id}/replay?dry_run=true")) for _ in range(12)
            ]
            await wait_until(lambda: count_lock_waiters(db))
            for number in range(20, 30):
                assert await ops.deliver_ok(make_event("user.created", f"user_{number}")) == "applied"
                assert await count_lock_waiters(db) <= MAX_OPS_CONNECTIONS == 2
            responses = await asyncio.gather(*dry_runs)
        await other.close()
        assert {response.status_code for response in responses} == {503}
        assert {read_problem_code(response) for response in responses} == {"unavailable"}
        assert {response.headers["retry-after"] for response in responses} == {"5"}
        assert (await ops.replay(message_id))["outcome"] == "applied"


async def test_a_preview_logs_that_it_is_one(ops: OpsWorld, output: Any) -> None:
    message_id = await ops.park(make_event("user.created", "user_1"))
    await ops.db.execute("alter table users add constraint refuses check (id = '') not valid")
    await ops.replay(message_id, dry_run="true")
    assert [line.get("dry_run") for line in output.log("parked")] == [None, True]


async def test_a_replay_counts_as_a_retry(ops: OpsWorld) -> None:
    message_id = await ops.park(make_event("user.created", "user_1"))
    await ops.replay(message_id, dry_run="true")
    await ops.replay(message_id)
    await ops.act("/ops/replay", json={"clerk_id": "user_1"})
    metrics = (await ops.client.get("/metrics")).text
    assert 'sync_service_retries_total{outcome="applied"} 2.0' in metrics


async def test_each_replay_has_an_audit_line_without_a_person(ops: OpsWorld) -> None:
    message_id = await ops.park(make_event("user.created", "user_1"))
    await ops.replay(message_id, dry_run="true")
    await ops.act("/ops/replay", json={"status": "failed", "dry_run": True})
    await ops.replay(message_id)
    await ops.act("/ops/replay", json={"clerk_id": "user_1", "since": "2026-01-31T12:00:00+02:00"})
    await ops.act("/ops/replay", json={"status": "dead", "clerk_id": "ada@example.com", "type": "Ada Example"})
    assert await ops.read_audit() == [
        ("api", "replay", "status=dead type=(hidden) clerk_id=(hidden)"),
        ("api", "replay", "clerk_id=user_1 since=2026-01-31T10:00:00+00:00"),
        ("api", "replay", message_id),
    ]
    audit = json.dumps((await ops.read("/ops/audit"))["audit"])
    assert set(json.loads(audit)[0]) == {"at", "who", "action", "subject"}


async def test_a_replay_without_its_audit_line_does_not_happen(ops: OpsWorld) -> None:
    message_id = await ops.park(make_event("user.created", "user_1"))
    await ops.db.execute("alter table clerk_sync.audit rename to gone")
    for path, options in ((f"/ops/events/{message_id}/replay", {}), ("/ops/replay", {"json": {"status": "failed"}})):
        response = await ops.ops("POST", path, **options)
        assert (response.status_code, read_problem_code(response)) == (503, "unavailable")
    assert await ops.get_user("user_1") is None
