"""The summary, the audit and the deliveries."""

from datetime import datetime

from tests.clerk_stub import ClerkStub
from tests.ops.conftest import OpsWorld
from tests.problems import read_problem_code
from tests.sync_requests import post_sync
from tests.world import make_event

EMPTY = {
    "events": {"applied": 0, "stale": 0, "ignored": 0, "failed": 0, "dead": 0},
    "backlog": 0,
    "oldest_waiting_at": None,
    "lag_seconds": 0.0,
    "last_event_at": None,
    "missed_webhooks": 0,
    "last_reconcile": None,
    "failed_deliveries": 0,
}


async def test_the_summary_has_each_figure_from_the_start(ops: OpsWorld) -> None:
    assert await ops.read("/ops/summary") == EMPTY


async def test_the_summary_shows_the_state_of_the_service(ops_with_clerk: OpsWorld, clerk: ClerkStub) -> None:
    ops = ops_with_clerk
    clerk.add_user("user_1")
    clerk.add_user("user_2")
    await ops.deliver_ok(make_event("user.created", "user_1"))
    assert (await post_sync(ops, "user_2")).json()["outcome"] == "created"
    for number in range(3, 6):
        await ops.park(make_event("user.created", f"user_{number}"))
    await ops.db.execute("""
        update clerk_sync.events set received_at = received_at - interval '1 minute' where clerk_id = 'user_4';
        update clerk_sync.events set status = 'dead', next_attempt_at = null where clerk_id = 'user_5'
    """)
    await ops.act("/ops/reconcile", 202, json={"dry_run": True})
    summary = await ops.read("/ops/summary")
    assert summary["events"] == {"applied": 1, "stale": 0, "ignored": 0, "failed": 2, "dead": 1}
    assert (summary["backlog"], summary["missed_webhooks"]) == (2, 1)
    assert 60 <= summary["lag_seconds"] < 6000
    oldest, last = (datetime.fromisoformat(summary[name]) for name in ("oldest_waiting_at", "last_event_at"))
    assert 0 < (last - oldest).total_seconds() < 6000
    assert summary["last_reconcile"]["dry_run"] is True


async def test_the_audit_is_limited_and_newest_first(ops: OpsWorld) -> None:
    await ops.db.execute(
        "insert into clerk_sync.audit (who, action, subject) select 'page', 'replay', 'msg_' || n from"
        " generate_series(1, 120) as n"
    )
    assert [subject for _, _, subject in await ops.read_audit()][:2] == ["msg_120", "msg_119"]
    assert len(await ops.read_audit()) >= 50
    assert len((await ops.read("/ops/audit?limit=1000"))["audit"]) == 120
    assert (await ops.ops("GET", "/ops/audit?limit=0")).status_code == 400


async def test_no_change_is_delivered_yet(ops: OpsWorld) -> None:
    assert await ops.read("/ops/changes?status=dead") == {"changes": [], "next_cursor": None}
    response = await ops.ops("POST", "/ops/changes/1/replay")
    assert (response.status_code, read_problem_code(response)) == (404, "unknown_change")


async def test_an_unknown_parameter_is_refused(ops: OpsWorld) -> None:
    for path in ("summary", "reconcile", "audit", "changes", "events/x", "users/x"):
        response = await ops.ops("GET", f"/ops/{path}?unknown=1")
        assert (response.status_code, read_problem_code(response)) == (400, "bad_request"), path
