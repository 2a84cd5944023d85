"""Five applications, each with its own table and a `sync.toml`: every user's whole life, in every order and twice."""

import asyncio
import random
from itertools import permutations
from typing import Any

import asyncpg
import pytest

from sync_service.postgres.statements import quoted
from tests.apps.life import Life
from tests.apps.shapes import SHAPES, Shape
from tests.world import PII_SENTINEL, T1, T2, T3, World, make_email_fields, make_event, make_message_id, wait_until


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def shape(request: pytest.FixtureRequest) -> Shape:
    found: Shape = request.param
    return found


def life_of(user: str) -> dict[str, dict[str, Any]]:
    image = f"https://img.example.com/{user}"
    return {
        "created": make_event(
            "user.created", user, T1, first_name="Created", image_url=image, **make_email_fields(f"{user}.a")
        ),
        "updated": make_event(
            "user.updated", user, T2, first_name="Updated", image_url=image, **make_email_fields(f"{user}.b")
        ),
        "deleted": make_event("user.deleted", user, T3),
    }


async def address_of(world: World, shape: Shape, user: str) -> str | None:
    row = await world.get_user(user)
    assert row
    found: str | None = row[shape.address]
    return found


def address(local: str) -> str:
    return f"{local}.{PII_SENTINEL}@example.com"


async def test_a_whole_life_in_every_order_and_twice(world: World, shape: Shape) -> None:
    """F1 to F4: after each delivery the row is what is known by then, and what belongs to the app is as it was."""
    for number, order in enumerate(permutations(["created", "updated", "deleted"])):
        user = f"user_{number}"
        events, life = life_of(user), Life(world, shape, user)
        for step in order:
            message_id = make_message_id()
            for _ in range(2):
                assert (await world.deliver(events[step], message_id)).status_code == 200
                life.hear(events[step])
                await life.check()
                if not life.lived_in and not life.deleted:
                    await life.live_in()
                    await life.check()
        assert life.deleted


async def test_who_stays_keeps_key_children_and_the_app_s_columns(world: World, shape: Shape) -> None:
    """And what is told again, or is not newer, changes nothing."""
    for user, order in (("user_1", ("created", "updated")), ("user_2", ("updated", "created"))):
        events, life = life_of(user), Life(world, shape, user)
        for step in (*order, *order):
            await world.deliver(events[step])
            life.hear(events[step])
            await life.check()
            if not life.lived_in:
                await life.live_in()
        before = await world.get_users()
        assert await world.deliver_ok(events["updated"]) == "applied"
        assert await world.get_users() == before


@pytest.mark.parametrize("seed", [7])
async def test_any_history_ends_as_its_fold(world: World, shape: Shape, seed: int) -> None:
    """F8, C5: twelve users, three to eight events each, told one to three times, many at once and in any order."""
    dice = random.Random(seed)
    lives = [Life(world, shape, f"user_{number}") for number in range(12)]
    told = []
    for life in lives:
        for at in range(dice.randint(3, 8)):
            kind = "user.deleted" if dice.random() < 0.1 else "user.updated"
            fields = make_email_fields(f"{life.user_id}.{at}") if dice.random() < 0.8 else {}
            body = make_event(kind, life.user_id, T1 + 1000 * at, **({} if kind == "user.deleted" else fields))
            life.hear(body)
            told += [(body, make_message_id())] * dice.randint(1, 3)
    dice.shuffle(told)
    answers = await asyncio.gather(*(world.deliver(body, message_id) for body, message_id in told))
    assert {answer.status_code for answer in answers} == {200}
    for life in lives:
        await life.check()


async def test_two_users_with_a_phone_only_are_two_users(world: World, shape: Shape) -> None:
    """E1, E2: with no address, or with one that reaches nobody where the table insists on one."""
    for user in ("user_1", "user_2"):
        phone = {"id": "idn_p", "phone_number": "+15555550100"}
        body = make_event("user.created", user, phone_numbers=[phone], primary_phone_number_id="idn_p")
        assert await world.deliver_ok(body) == "applied"
        expected = shape.no_address and shape.no_address.format(user)
        assert await address_of(world, shape, user) == expected


async def test_an_address_comes_and_goes(world: World, shape: Shape) -> None:
    """E4: clearing propagates."""
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    await world.deliver_ok(make_event("user.updated", "user_1", T2, **make_email_fields("a")))
    assert await address_of(world, shape, "user_1") == address("a")
    await world.deliver_ok(make_event("user.updated", "user_1", T3))
    assert await address_of(world, shape, "user_1") == (shape.no_address and shape.no_address.format("user_1"))


async def test_an_older_update_is_stale(world: World, shape: Shape) -> None:
    """F2."""
    newer, older = make_event("user.updated", "user_1", T3), make_event("user.updated", "user_1", T2, first_name="Old")
    assert await world.deliver_ok(newer) == "applied"
    message_id = make_message_id()
    assert await world.deliver_ok(older, message_id) == "stale"
    filed = await world.get_event(message_id)
    assert filed
    assert filed["status"] == "stale"
    row = await world.get_user("user_1")
    assert row
    assert shape.shows(newer["data"]).items() <= row.items()


async def test_two_contents_of_one_instant_end_the_same_in_both_orders(
    world: World, shape: Shape, db: asyncpg.Connection
) -> None:
    """F7."""
    ends = []
    for order in (("Ada", "Grace"), ("Grace", "Ada")):
        for name in order:
            await world.deliver_ok(make_event("user.updated", "user_1", T1, first_name=name))
        row = await world.get_user("user_1")
        assert row
        ends.append({column: row[column] for column in shape.columns})
        await db.execute(f"delete from {world.table} where {quoted(world.mapping.clerk_id)} = 'user_1'")
        await db.execute("truncate clerk_sync.identities, clerk_sync.events")
        world.accepted.clear()
    assert ends[0] == ends[1]


async def test_a_deletion_is_final_whatever_its_timestamp(world: World, shape: Shape) -> None:
    """F11."""
    for timestamp in (T2 // 1000, T2, 0, None, T1 - 3_600_000):
        user = f"user_{timestamp}"
        life = Life(world, shape, user)
        body = make_event("user.deleted", user) | {"timestamp": timestamp}
        if timestamp is None:
            del body["timestamp"]
        for step, outcome in (
            (make_event("user.updated", user, T1), "applied"),
            (body, "applied"),
            (make_event("user.updated", user, T3), "stale"),
        ):
            assert await world.deliver_ok(step) == outcome
            life.hear(step)
        await life.check()


async def test_a_deletion_of_somebody_unknown_is_fine(world: World) -> None:
    """C8."""
    before = await world.get_users()
    assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
    assert await world.get_users() == before


@pytest.mark.parametrize("deleted_first", [True, False])
async def test_an_address_goes_to_whoever_signs_up_with_it_next(
    world: World, shape: Shape, deleted_first: bool
) -> None:
    """D1, D2 and D8: at once, or as soon as the deletion has arrived."""
    await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
    steps = [
        make_event("user.deleted", "user_1", T2),
        make_event("user.created", "user_2", T3, **make_email_fields("e")),
    ]
    for step in steps if deleted_first else reversed(steps):
        assert await world.deliver_ok(step) == "applied"

    async def shown() -> bool:
        return await address_of(world, shape, "user_2") == address("e")

    await wait_until(shown, 15)
    gone = Life(world, shape, "user_1", deleted=True)
    await gone.check()


async def test_three_deletions_in_a_row_are_no_violation(world: World) -> None:
    """D3."""
    before = len(await world.get_users())
    for number in range(3):
        await world.deliver_ok(make_event("user.created", f"user_{number}", **make_email_fields(f"e{number}")))
    assert len(await world.get_users()) == before + 3
    for number in range(3):
        assert await world.deliver_ok(make_event("user.deleted", f"user_{number}")) == "applied"


async def test_two_users_swap_addresses_in_every_order(world: World, shape: Shape) -> None:
    """D4."""
    for number, order in enumerate(permutations(range(3))):
        one, two, a, b = f"user_{number}_1", f"user_{number}_2", f"a{number}", f"b{number}"
        await world.deliver_ok(make_event("user.created", one, T1 - 500, **make_email_fields(a)))
        await world.deliver_ok(make_event("user.created", two, T1 - 500, **make_email_fields(b)))
        steps = [
            make_event("user.updated", one, T1, **make_email_fields(f"tmp{number}")),
            make_event("user.updated", two, T2, **make_email_fields(a)),
            make_event("user.updated", one, T3, **make_email_fields(b)),
        ]
        for step in order:
            assert await world.deliver_ok(steps[step]) in {"applied", "stale"}
        assert await address_of(world, shape, one) == address(b)
        assert await address_of(world, shape, two) == address(a)


async def test_nothing_of_the_app_is_written_from_what_users_write_themselves(world: World, shape: Shape) -> None:
    """L9: metadata with the names of the app's columns gets into none of them, nor into the whole user."""
    claims = dict.fromkeys(["tier", "role", "is_coach", "headline", "persona"], "MAXX")
    body = make_event("user.created", "user_1", unsafe_metadata=claims, public_metadata=claims, private_metadata=claims)
    assert await world.deliver_ok(body) == "applied"
    row = await world.get_user("user_1")
    assert row
    document = row.pop("raw_json", {})
    assert document.keys().isdisjoint({"unsafe_metadata", "private_metadata"})
    assert "MAXX" not in str(row)
    life = Life(world, shape, "user_1")
    life.hear(body)
    await life.check()


async def test_a_long_name_is_cut_where_the_column_is_short(world: World, shape: Shape) -> None:
    """Of characters, not of bytes; and the event is not lost."""
    life = Life(world, shape, "user_1")
    body = make_event("user.created", "user_1", first_name="ä" * 300, last_name="😀" * 300)
    assert await world.deliver_ok(body) == "applied"
    life.hear(body)
    await life.check()
