"""Deduplication, missing fields and order of events, through the whole service."""

import asyncio
from itertools import permutations
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.world import T0, T1, T2, T3, World, make_email_fields, make_event, make_message_id


async def deliver_all(world: World, *bodies: dict[str, Any]) -> list[httpx2.Response]:
    return [await world.deliver(body) for body in bodies]


async def test_one_message_delivered_five_times_at_once_is_applied_once(world: World) -> None:
    """One of five concurrent deliveries is applied, the others are duplicates, and all get 200 (C5)."""
    message_id = make_message_id()
    responses = await asyncio.gather(
        *(world.deliver(make_event("user.created", "user_1"), message_id) for _ in range(5))
    )
    assert sorted(response.json()["outcome"] for response in responses) == ["applied"] + ["duplicate"] * 4
    assert {response.status_code for response in responses} == {200}
    assert len(await world.get_users()) == 1
    stored = await world.get_event(message_id)
    assert stored
    assert stored["attempts"] == 1


async def test_a_failed_message_is_retried_when_it_is_delivered_again(world: World, db: asyncpg.Connection) -> None:
    """A parked event is attempted at each delivery of its message, and applied once the table accepts it (C4, C6)."""
    await db.execute("create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
    await db.execute("create trigger refuse before insert on users for each row execute function refuse()")
    message_id = make_message_id()
    response = await world.deliver(make_event("user.created", "user_1"), message_id)
    assert (response.status_code, response.json()) == (202, {"outcome": "parked", "reason": "raise"})
    assert (await world.deliver(make_event("user.created", "user_1"), message_id)).status_code == 202
    stored = await world.get_event(message_id)
    assert stored
    assert (stored["status"], stored["attempts"], stored["reason"]) == ("failed", 2, "raise")
    assert await world.get_users() == []
    await db.execute("drop trigger refuse on users")
    assert await world.deliver_ok(make_event("user.created", "user_1"), message_id) == "applied"
    stored = await world.get_event(message_id)
    assert stored
    assert (stored["status"], stored["attempts"], stored["reason"], stored["next_attempt_at"]) == (
        "applied",
        3,
        None,
        None,
    )
    assert await world.deliver_ok(make_event("user.created", "user_1"), message_id) == "duplicate"


async def test_a_deletion_of_an_unknown_user_is_applied(world: World) -> None:
    """Also a second deletion event is applied (C8)."""
    assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
    assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"


@pytest.mark.parametrize("event_type", ["session.created", "email.created", "foo.bar", "user.somethingNew"])
async def test_an_unhandled_event_is_ignored_and_its_type_kept(world: World, event_type: str) -> None:
    """The response is 200, because Svix would repeat a failed message for a day (C9)."""
    message_id = make_message_id()
    assert await world.deliver_ok(make_event(event_type, "user_1"), message_id) == "ignored"
    stored = await world.get_event(message_id)
    assert stored
    assert (stored["type"], stored["status"], stored["payload"], stored["clerk_id"]) == (
        event_type,
        "ignored",
        None,
        None,
    )
    assert await world.get_users() == []
    assert await world.deliver_ok(make_event(event_type, "user_1"), message_id) == "duplicate"


async def test_two_users_without_an_email_are_two_rows(world: World) -> None:
    """Users with only a phone number have NULL as their email and do not collide (E1, E2)."""
    for number in (1, 2):
        phone = {"id": "idn_p", "phone_number": f"+1555555010{number}"}
        body = make_event("user.created", f"user_{number}", phone_numbers=[phone], primary_phone_number_id="idn_p")
        assert await world.deliver_ok(body) == "applied"
        row = await world.get_user(f"user_{number}")
        assert row
        assert (row["email"], row["phone"], row["email_verified"]) == (None, f"+1555555010{number}", False)
    assert len(await world.get_users()) == 2


async def test_an_email_is_added_and_removed(world: World) -> None:
    """An update without an email sets the column to NULL (E4)."""
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    await world.deliver_ok(make_event("user.updated", "user_1", T2, **make_email_fields("a")))
    row = await world.get_user("user_1")
    assert row
    assert row["email"] == "a.PII_SENTINEL@example.com"
    await world.deliver_ok(make_event("user.updated", "user_1", T3, email_addresses=[]))
    row = await world.get_user("user_1")
    assert row
    assert row["email"] is None


async def test_fifty_unknown_fields_are_ignored(world: World) -> None:
    """An event with fifty unknown fields is applied (E6)."""
    extra: dict[str, Any] = {f"new_{n}": [{"n": n}] for n in range(50)}
    assert await world.deliver_ok(make_event("user.created", "user_1", **extra)) == "applied"


@pytest.mark.parametrize("absence", [None, {}])
async def test_verification_and_metadata_may_be_null(world: World, absence: object) -> None:
    """`verification` and metadata may be null or empty objects (E7)."""
    data = make_email_fields("a")
    data["email_addresses"][0]["verification"] = absence
    body = make_event("user.created", "user_1", **data, public_metadata=absence, private_metadata=absence)
    assert await world.deliver_ok(body) == "applied"
    row = await world.get_user("user_1")
    assert row
    assert (row["email_verified"], row["public_metadata"]) == (False, {})


async def test_an_update_before_the_creation_wins(world: World) -> None:
    """A `user.created` that is older than the stored row is stale (F1)."""
    assert await world.deliver_ok(make_event("user.updated", "user_1", T2, first_name="New")) == "applied"
    assert await world.deliver_ok(make_event("user.created", "user_1", T1, first_name="Old")) == "stale"
    row = await world.get_user("user_1")
    assert row
    assert row["first_name"] == "New"


async def test_an_older_update_is_stale(world: World) -> None:
    """An update that is older than the stored row is stale, and the row is unchanged (F2)."""
    await world.deliver_ok(make_event("user.updated", "user_1", T3, first_name="New"))
    message_id = make_message_id()
    assert await world.deliver_ok(make_event("user.updated", "user_1", T2, first_name="Old"), message_id) == "stale"
    stored = await world.get_event(message_id)
    assert stored
    assert stored["status"] == "stale"
    row = await world.get_user("user_1")
    assert row
    assert row["first_name"] == "New"


async def test_a_late_update_does_not_restore_a_deleted_user(world: World) -> None:
    """After a deletion every update is stale, even one with a later timestamp (F3)."""
    await deliver_all(world, make_event("user.created", "user_1", T1), make_event("user.deleted", "user_1", T3))
    assert await world.deliver_ok(make_event("user.updated", "user_1", T2)) == "stale"
    assert await world.deliver_ok(make_event("user.updated", "user_1", T3 + 10_000)) == "stale"
    assert await world.get_user("user_1") is None


async def test_after_an_early_deletion_no_event_creates_the_row(world: World) -> None:
    """A deletion of an unknown user makes its later creation and update stale (F4)."""
    bodies = [
        make_event("user.deleted", "user_1", T3),
        make_event("user.created", "user_1", T1),
        make_event("user.updated", "user_1", T2),
    ]
    assert {response.status_code for response in await deliver_all(world, *bodies)} == {200}
    assert await world.get_user("user_1") is None


async def test_two_versions_with_one_timestamp_end_the_same_in_both_orders(world: World) -> None:
    """A tiebreak on the content makes the result independent of the order (F7)."""
    ends = []
    for order in (("Ada", "Grace"), ("Grace", "Ada")):
        await world.db.execute("delete from users; delete from clerk_sync.identities; delete from clerk_sync.events")
        world.accepted.clear()
        for name in order:
            assert (await world.deliver(make_event("user.updated", "user_1", T1, first_name=name))).status_code == 200
        ends.append(await world.get_user("user_1"))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("timestamp", ["seconds", "milliseconds", 0, None, "an hour before"])
async def test_a_deletion_is_final_with_any_timestamp(world: World, timestamp: object) -> None:
    """A deletion wins with a timestamp in seconds, in milliseconds, 0, absent or in the past (F11)."""
    body = make_event("user.deleted", "user_1", T2)
    match timestamp:
        case "seconds":
            body["timestamp"] = T2 // 1000
        case "an hour before":
            body["timestamp"] = T1 - 3_600_000
        case None:
            del body["timestamp"]
        case 0:
            body["timestamp"] = 0
        case _:
            pass
    await world.deliver_ok(make_event("user.updated", "user_1", T1))
    assert await world.deliver_ok(body) == "applied"
    assert await world.deliver_ok(make_event("user.updated", "user_1", T3)) == "stale"
    assert await world.get_user("user_1") is None


async def test_a_user_s_events_end_the_same_in_every_order(world: World) -> None:
    """All 24 orders of four events, each delivered twice and for a user of its own, end the same (F1 to F4)."""
    for number, order in enumerate(permutations(range(4))):
        user = f"user_{number}"
        life = [
            make_event("user.created", user, T0, first_name="Created"),
            make_event("user.updated", user, T1, first_name="First"),
            make_event("user.updated", user, T2, first_name="Second"),
            make_event("user.deleted", user, T3),
        ]
        for step in order:
            message_id = make_message_id()
            for _ in range(2):
                assert (await world.deliver(life[step], message_id)).status_code == 200
        assert await world.get_user(user) is None
        for step in order:
            alive = f"{user}_alive"
            if step < 3:
                life[step]["data"]["id"] = alive
                await world.deliver(life[step])
        row = await world.get_user(f"{user}_alive")
        assert row
        assert row["first_name"] == "Second"
