"""The list of events for operators, and one event."""

from datetime import UTC, datetime
from typing import Any

from tests.ops.conftest import OpsWorld
from tests.problems import read_problem_code
from tests.world import PII_SENTINEL, T1, make_event, make_message_id

FIELDS = {
    "id",
    "type",
    "clerk_id",
    "status",
    "reason",
    "attempts",
    "received_at",
    "next_attempt_at",
    "finished_at",
}


async def test_a_list_has_the_newest_event_first_and_no_payload(ops: OpsWorld) -> None:
    first, second = make_message_id(), make_message_id()
    await ops.deliver_ok(make_event("user.created", "user_1", T1), first)
    await ops.deliver_ok(make_event("user.created", "user_2", T1), second)
    response = await ops.ops("GET", "/ops/events/")
    found = response.json()
    assert [event["id"] for event in found["events"]] == [second, first]
    assert found["next_cursor"] is None
    assert set(found["events"][0]) == FIELDS
    assert PII_SENTINEL not in response.text


async def test_each_filter_selects_events(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1"), "msg_applied")
    await ops.deliver_ok({"type": "organization.created", "data": {}, "object": "event"}, "msg_ignored")
    parked = await ops.park(make_event("user.updated", "user_2"))
    times = "update clerk_sync.events set received_at = $2 where id = $1"
    for message_id, hour in (("msg_applied", 1), ("msg_ignored", 2), (parked, 3)):
        await ops.db.execute(times, message_id, datetime(2026, 1, 31, hour, tzinfo=UTC))
    for parameters, ids in (
        ({"status": "ignored"}, ["msg_ignored"]),
        ({"status": "applied"}, ["msg_applied"]),
        ({"status": "dead"}, []),
        ({"type": "user.updated"}, [parked]),
        ({"type": "user.updated' or true --"}, []),
        ({"clerk_id": "user_1"}, ["msg_applied"]),
        ({"reason": "check_violation"}, [parked]),
        ({"since": "2026-01-31T02:00:00Z"}, [parked, "msg_ignored"]),
        ({"until": "2026-01-31T02:00:00Z"}, ["msg_applied"]),
        ({"since": "2026-01-31T04:00:00+02:00", "until": "2026-01-31T02:00:00.000001Z"}, ["msg_ignored"]),
        ({"status": "failed", "type": "user.updated", "clerk_id": "user_2", "reason": "check_violation"}, [parked]),
        ({"status": "", "type": "", "clerk_id": "", "reason": "", "since": "", "limit": "", "cursor": ""}, None),
        ({"limit": "1"}, [parked]),
    ):
        found = await ops.read("/ops/events", params=parameters)
        expected = [parked, "msg_ignored", "msg_applied"] if ids is None else ids
        assert [event["id"] for event in found["events"]] == expected, parameters
    unencoded = await ops.read("/ops/events?since=2026-01-31T04:00:00+02:00")
    assert len(unencoded["events"]) == 2


REFUSED_QUERIES = (
    "status=parked",
    "status=dead&status=failed",
    "limit=0",
    "limit=1001",
    "limit=-1",
    "limit=1.0",
    "limit=\u0665",
    "since=yesterday",
    "since=2026-01-31",
    "since=2026-01-31T12:00:00",
    "until=2026-02-30T12:00:00Z",
    "until=0001-01-01T00:00:00%2B14:00",
    "cursor=nonsense",
    "cursor=MTIz",
    "type=%00",
    "clerk_id=" + "u" * 256,
    "stauts=dead",
    "token=SECRET",
)


async def test_an_unreadable_or_unknown_parameter_is_refused(ops: OpsWorld) -> None:
    for query in REFUSED_QUERIES:
        response = await ops.ops("GET", f"/ops/events?{query}")
        assert (response.status_code, read_problem_code(response)) == (400, "bad_request"), query


async def test_one_event_has_its_attempts_and_its_payload(ops: OpsWorld) -> None:
    data: dict[str, Any] = {"first_name": "<script>alert(1)</script>", "public_metadata": {"n": 2**60}}
    message_id = await ops.park(make_event("user.created", "user_1", **data))
    response = await ops.ops("GET", f"/ops/events/{message_id}")
    event = response.json()
    assert set(event) == FIELDS | {"failures", "payload"}
    assert (event["status"], event["reason"], event["attempts"]) == ("failed", "check_violation", 1)
    [failure] = event["failures"]
    assert datetime.fromisoformat(failure.pop("at")).tzinfo
    assert failure == {"reason": "check_violation", "table": "users", "column": None, "constraint": "refuses"}
    assert event["payload"]["first_name"] == "<script>alert(1)</script>"
    # Markup stays text: no browser reads JSON as HTML.
    assert response.headers["content-type"] == "application/json"
    assert event["payload"]["public_metadata"] == {"n": str(2**60)}


async def test_an_event_keeps_any_id_that_svix_may_send(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1"), "evt/1?x=<b>#%")
    event = await ops.read("/ops/events/evt%2F1%3Fx=%3Cb%3E%23%25")
    assert event["id"] == "evt/1?x=<b>#%"
    assert (await ops.replay("evt%2F1%3Fx=%3Cb%3E%23%25"))["outcome"] == "applied"


async def test_an_unknown_event_is_404(ops: OpsWorld) -> None:
    for message_id in ("msg_unknown", "%00", "a%20b", "ä", "x" * 256):
        for method, path in (("GET", ""), ("POST", "/replay"), ("POST", "/replay?dry_run=true")):
            response = await ops.ops(method, f"/ops/events/{message_id}{path}")
            assert (response.status_code, read_problem_code(response)) == (404, "unknown_event")
    assert await ops.read_audit() == []
