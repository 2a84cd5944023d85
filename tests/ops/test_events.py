"""The list of events for operators, and one event."""

from tests.ops.conftest import OpsWorld
from tests.world import T1, make_event, make_message_id

FIELDS = [
    "id",
    "type",
    "clerk_id",
    "status",
    "reason",
    "attempts",
    "received_at",
    "next_attempt_at",
    "finished_at",
]


async def test_a_list_has_the_newest_event_first_and_no_payload(ops: OpsWorld) -> None:
    first, second = make_message_id(), make_message_id()
    await ops.deliver_ok(make_event("user.created", "user_1", T1), first)
    await ops.deliver_ok(make_event("user.created", "user_2", T1), second)
    found = await ops.read("/ops/events")
    assert [event["id"] for event in found["events"]] == [second, first]
    assert found["next_cursor"] is None
    assert [*found["events"][0]] == FIELDS
