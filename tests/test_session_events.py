"""`session.created` contains the whole user, so a sign-in updates the row even if the app never calls /sync."""

import json
from pathlib import Path
from typing import Any

import pytest

from sync_service.clerk.change import Snapshot
from sync_service.clerk.events import parse_event
from sync_service.clerk.stored_events import event_from_row
from tests.world import (
    INSTANCE,
    T1,
    T2,
    T3,
    World,
    encode_body,
    make_email_fields,
    make_event,
    make_message_id,
    make_user_data,
)


def make_session_event(user: object, **session: Any) -> dict[str, Any]:
    """Return the body of an event; the sentinel is in the session's own fields, which must not be stored."""
    data = {"object": "session", "id": "sess_PII_SENTINEL", "user_id": "user_1", "updated_at": T3, "user": user}
    return {"type": "session.created", "object": "event", "instance_id": INSTANCE, "data": data | session}


async def test_a_sign_in_saves_the_user(world: World) -> None:
    message_id = make_message_id()
    user = make_user_data("user_1", T2, private_metadata={"k": "SECRET_SENTINEL"}, **make_email_fields("a"))
    assert await world.deliver_ok(make_session_event(user), message_id) == "applied"
    row = await world.get_user("user_1")
    assert row
    assert row["email"] == "a.PII_SENTINEL@example.com"
    stored = await world.get_event(message_id)
    assert stored
    assert stored["clerk_id"] == "user_1"
    assert set(json.loads(stored["payload"])) == set(user) - {"private_metadata"}
    assert await world.deliver_ok(make_session_event(user), message_id) == "duplicate"
    assert await world.deliver_ok(make_event("user.updated", "user_1", T3, first_name="Grace")) == "applied"
    assert await world.deliver_ok(make_session_event(user)) == "stale"
    await world.deliver_ok(make_event("user.deleted", "user_1"))
    assert await world.deliver_ok(make_session_event(make_user_data("user_1", T3 + 1))) == "stale"
    assert await world.get_user("user_1") is None


@pytest.mark.parametrize("invalid_user", [None, "absent", [], 7, "user_1"])
async def test_a_session_without_its_user_is_ignored(world: World, invalid_user: object) -> None:
    """Older events have no user, and the specification of some SDKs allows its absence."""
    body = make_session_event(invalid_user)
    if invalid_user == "absent":
        del body["data"]["user"]
    message_id = make_message_id()
    assert await world.deliver_ok(body, message_id) == "ignored"
    stored = await world.get_event(message_id)
    assert stored
    assert (stored["payload"], stored["clerk_id"]) == (None, None)
    assert await world.get_users() == []


@pytest.mark.parametrize("data", [None, [], 7, "absent"])
async def test_an_invalid_session_is_ignored(world: World, data: object) -> None:
    body = make_session_event(None) | {"data": data}
    if data == "absent":
        del body["data"]
    assert await world.deliver_ok(body) == "ignored"


async def test_other_session_events_are_ignored(world: World) -> None:
    for kind in ("ended", "removed", "revoked", "pending"):
        body = make_session_event(make_user_data("user_1", T1)) | {"type": f"session.{kind}"}
        assert await world.deliver_ok(body) == "ignored"
    assert await world.get_users() == []


def test_a_stored_session_event_is_read_as_its_user() -> None:
    """An event that an older release stored without a payload has no change and no error."""
    read = parse_event("msg_1", encode_body(make_session_event(make_user_data("user_1", T1))))
    row = {"id": "msg_1", "type": "session.created", "instance_id": INSTANCE, "clerk_id": "user_1", "user_id": None}
    again = event_from_row(row | {"payload": read.payload})
    assert isinstance(again.change, Snapshot)
    assert again.change == read.change
    old = event_from_row(row | {"payload": None, "clerk_id": None})
    assert (old.change, old.error) == (None, None)


async def test_clerk_s_own_example_is_parsed(shared: Path) -> None:
    read = parse_event("msg_1", (shared / "samples" / "spec-session.created.json").read_bytes())
    assert isinstance(read.change, Snapshot)
    assert read.clerk_id == read.change.user.id
