"""Events with wrong, missing or hostile values: each gets an answer that Svix can use, and none affects another."""

import contextlib
import itertools
from dataclasses import replace
from typing import Any

import pytest

from sync_service.clerk.events import parse_event
from sync_service.clerk.stored_events import event_from_row
from sync_service.postgres.pool import open_database
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from tests.entities.conftest import (
    make_body,
    make_membership_event,
    make_organization_event,
    make_session_event,
    read_rows,
    retry_all,
)
from tests.world import T1, T2, World, encode_body, make_event, make_message_id

BODIES = {
    "session": make_session_event("session.created", "sess_1", "user_1", T1),
    "organization": make_organization_event("organization.created", "org_1", T1),
    "membership": make_membership_event("created", "orgmem_1", "org_1", "user_1", T1),
}
WRONG: tuple[Any, ...] = (
    None,
    7,
    -1,
    1e300,
    True,
    "",
    "x" * 5000,
    "\x00'; drop table people; --",
    [],
    {},
    [{}],
    {"id": 1},
)


@pytest.mark.parametrize("entity", BODIES)
async def test_a_wrong_value_is_stored_or_refused(world: World, settings: Settings, entity: str) -> None:
    await world.deliver_ok(make_event("user.created", "user_1"))
    await world.deliver_ok(make_organization_event("organization.created", "org_1"))
    event_type, data = BODIES[entity]["type"], BODIES[entity]["data"]
    for name, wrong in itertools.product(data, WRONG):
        body = make_body(event_type, data | {name: wrong})
        response = await world.deliver(body)
        assert response.status_code in {200, 202}, (name, wrong, response.text)
    for wrong in (None, 7, "x", []):
        assert (await world.deliver(make_body(event_type, wrong))).status_code == 400
    await retry_all(world.db, settings, world)
    # A good event is still applied.
    assert await world.deliver_ok(make_event("user.updated", "user_1", T2, first_name="Grace")) == "applied"
    assert await world.deliver_ok(make_session_event("session.created", "sess_9", "user_1", T2)) == "applied"
    assert [row["clerk_id"] for row in await read_rows(world.db, "people")] == ["user_1"]


async def test_an_unreadable_session_of_a_deleted_user_leaves_no_data(world: World) -> None:
    await world.deliver_ok(make_event("user.deleted", "user_1"))
    message_id = make_message_id()
    event = make_session_event("session.created", "sess_1", "user_1", T1)
    event["data"]["updated_at"] = "never"
    assert await world.deliver_ok(event, message_id) == "stale"
    stored = await world.get_event(message_id)
    assert stored
    assert (stored["status"], stored["payload"]) == ("stale", None)
    assert await read_rows(world.db, "user_sessions") == []


async def test_one_bad_session_does_not_stop_the_others(world: World) -> None:
    """The table refuses a country of three letters, and a session of the past that ends in the future."""
    good = [make_session_event("session.created", f"sess_{n}", "user_1", T1) for n in range(5)]
    bad = make_session_event("session.created", "sess_bad", "user_1", T1)
    bad["data"]["latest_activity"]["ip_address"] = "not an address"
    response = await world.deliver(bad)
    assert (response.status_code, response.json()["reason"]) == (202, "invalid_text_representation")
    assert [await world.deliver_ok(body) for body in good] == ["applied"] * 5
    assert len(await read_rows(world.db, "user_sessions")) == 5


async def test_a_stored_session_without_its_user_is_never_read_as_a_user(world: World) -> None:
    """The retry of such an event reads its payload from the inbox."""
    event = make_session_event("session.created", "sess_1", "user_1", T1, user=None)
    event["data"] |= {"user_id": 7, "object": "user"}
    message_id = make_message_id()
    assert await world.deliver_ok(event, message_id) == "parked"
    await world.db.execute("update clerk_sync.events set next_attempt_at = now()")
    stored = await world.db.fetchrow("select * from clerk_sync.events where id = $1", message_id)
    assert event_from_row(dict(stored or {})).entity == "session"


async def test_an_event_without_a_table_is_ignored_while_it_waits_for_a_lock(world: World, settings: Settings) -> None:
    """The section was removed from sync.toml after the event was stored."""
    database = settings.database
    assert database
    event = parse_event(make_message_id(), encode_body(BODIES["organization"]), {"user": (), "organization": ()})
    async with contextlib.aclosing(await open_database(database)) as pool:
        applier = Applier(Store(pool, replace(world.mapping, related=(), has_children=False)))
        assert (await applier.apply_waiting_for_lock(event)).outcome == "ignored"
    assert await read_rows(world.db, "teams") == []
