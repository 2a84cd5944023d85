"""SCENARIOS C, E and F over the whole service: every one ends in the same row, whatever the order."""

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
    """C5."""
    message_id = make_message_id()
    answers = await asyncio.gather(*(world.deliver(make_event("user.created", "user_1"), message_id) for _ in range(5)))
    assert sorted(answer.json()["outcome"] for answer in answers) == ["applied"] + ["duplicate"] * 4
    assert {answer.status_code for answer in answers} == {200}
    assert len(await world.get_users()) == 1
    filed = await world.get_event(message_id)
    assert filed
    assert filed["attempts"] == 1


async def test_a_message_that_failed_is_tried_again_when_it_comes_again(world: World, db: asyncpg.Connection) -> None:
    """C4 as far as the sender drives it, and C6."""
    await db.execute("create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
    await db.execute("create trigger refuse before insert on users for each row execute function refuse()")
    message_id = make_message_id()
    answer = await world.deliver(make_event("user.created", "user_1"), message_id)
    assert (answer.status_code, answer.json()) == (202, {"outcome": "parked", "reason": "raise"})
    assert (await world.deliver(make_event("user.created", "user_1"), message_id)).status_code == 202
    filed = await world.get_event(message_id)
    assert filed
    assert (filed["status"], filed["attempts"], filed["reason"]) == ("failed", 2, "raise")
    assert await world.get_users() == []
    await db.execute("drop trigger refuse on users")
    assert await world.deliver_ok(make_event("user.created", "user_1"), message_id) == "applied"
    filed = await world.get_event(message_id)
    assert filed
    assert (filed["status"], filed["attempts"], filed["reason"], filed["next_attempt_at"]) == ("applied", 3, None, None)
    assert await world.deliver_ok(make_event("user.created", "user_1"), message_id) == "duplicate"


async def test_deleting_a_user_who_was_never_seen_is_fine(world: World) -> None:
    """C8."""
    assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
    assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"


@pytest.mark.parametrize("event_type", ["session.created", "email.created", "foo.bar", "user.somethingNew"])
async def test_what_is_not_handled_is_ignored_and_kept_by_type(world: World, event_type: str) -> None:
    """C9: a failure would have Svix repeat it for a day."""
    message_id = make_message_id()
    assert await world.deliver_ok(make_event(event_type, "user_1"), message_id) == "ignored"
    filed = await world.get_event(message_id)
    assert filed
    assert (filed["type"], filed["status"], filed["payload"], filed["clerk_id"]) == (event_type, "ignored", None, None)
    assert await world.get_users() == []
    assert await world.deliver_ok(make_event(event_type, "user_1"), message_id) == "duplicate"


async def test_users_with_a_phone_only_are_two_users(world: World) -> None:
    """E1, E2."""
    for number in (1, 2):
        phone = {"id": "idn_p", "phone_number": f"+1555555010{number}"}
        body = make_event("user.created", f"user_{number}", phone_numbers=[phone], primary_phone_number_id="idn_p")
        assert await world.deliver_ok(body) == "applied"
        row = await world.get_user(f"user_{number}")
        assert row
        assert (row["email"], row["phone"], row["email_verified"]) == (None, f"+1555555010{number}", False)
    assert len(await world.get_users()) == 2


async def test_an_address_comes_and_goes(world: World) -> None:
    """E4: clearing propagates."""
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    await world.deliver_ok(make_event("user.updated", "user_1", T2, **make_email_fields("a")))
    row = await world.get_user("user_1")
    assert row
    assert row["email"] == "a.PII_SENTINEL@example.com"
    await world.deliver_ok(make_event("user.updated", "user_1", T3, email_addresses=[]))
    row = await world.get_user("user_1")
    assert row
    assert row["email"] is None


async def test_fifty_unknown_fields_are_no_matter(world: World) -> None:
    """E6."""
    extra: dict[str, Any] = {f"new_{n}": [{"n": n}] for n in range(50)}
    assert await world.deliver_ok(make_event("user.created", "user_1", **extra)) == "applied"


@pytest.mark.parametrize("nothing", [None, {}])
async def test_verification_and_metadata_may_be_null(world: World, nothing: object) -> None:
    """E7."""
    data = make_email_fields("a")
    data["email_addresses"][0]["verification"] = nothing
    body = make_event("user.created", "user_1", **data, public_metadata=nothing, private_metadata=nothing)
    assert await world.deliver_ok(body) == "applied"
    row = await world.get_user("user_1")
    assert row
    assert (row["email_verified"], row["public_metadata"]) == (False, {})


async def test_an_update_before_the_creation_wins(world: World) -> None:
    """F1."""
    assert await world.deliver_ok(make_event("user.updated", "user_1", T2, first_name="New")) == "applied"
    assert await world.deliver_ok(make_event("user.created", "user_1", T1, first_name="Old")) == "stale"
    row = await world.get_user("user_1")
    assert row
    assert row["first_name"] == "New"


async def test_an_older_update_is_stale(world: World) -> None:
    """F2."""
    await world.deliver_ok(make_event("user.updated", "user_1", T3, first_name="New"))
    message_id = make_message_id()
    assert await world.deliver_ok(make_event("user.updated", "user_1", T2, first_name="Old"), message_id) == "stale"
    filed = await world.get_event(message_id)
    assert filed
    assert filed["status"] == "stale"
    row = await world.get_user("user_1")
    assert row
    assert row["first_name"] == "New"


async def test_a_late_update_does_not_bring_a_deleted_user_back(world: World) -> None:
    """F3."""
    await deliver_all(world, make_event("user.created", "user_1", T1), make_event("user.deleted", "user_1", T3))
    assert await world.deliver_ok(make_event("user.updated", "user_1", T2)) == "stale"
    assert await world.deliver_ok(make_event("user.updated", "user_1", T3 + 10_000)) == "stale"
    assert await world.get_user("user_1") is None


async def test_a_deletion_before_all_else_leaves_no_ghost(world: World) -> None:
    """F4."""
    bodies = [
        make_event("user.deleted", "user_1", T3),
        make_event("user.created", "user_1", T1),
        make_event("user.updated", "user_1", T2),
    ]
    assert {answer.status_code for answer in await deliver_all(world, *bodies)} == {200}
    assert await world.get_user("user_1") is None


async def test_two_contents_of_one_instant_end_the_same_in_both_orders(world: World) -> None:
    """F7."""
    ends = []
    for order in (("Ada", "Grace"), ("Grace", "Ada")):
        await world.db.execute("truncate users, clerk_sync.identities, clerk_sync.events")
        world.accepted.clear()
        for name in order:
            assert (await world.deliver(make_event("user.updated", "user_1", T1, first_name=name))).status_code == 200
        ends.append(await world.get_user("user_1"))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("timestamp", ["seconds", "milliseconds", 0, None, "an hour before"])
async def test_a_deletion_is_final_whatever_its_timestamp(world: World, timestamp: object) -> None:
    """F11."""
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


async def test_a_whole_life_ends_the_same_in_every_order(world: World) -> None:
    """F1 to F4 in all 24 orders, each with a user of its own, each message twice."""
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
