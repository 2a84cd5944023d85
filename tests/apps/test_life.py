"""Five applications, each with its table and `sync.toml`: the events of a user in every order and twice."""

import asyncio
import random
from itertools import permutations
from typing import Any

import asyncpg
import pytest

from sync_service.postgres.sql import quote_ident
from tests.apps.life import Life
from tests.apps.shapes import SHAPES, Shape
from tests.world import PII_SENTINEL, T1, T2, T3, World, make_email_fields, make_event, make_message_id, wait_until


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def shape(request: pytest.FixtureRequest) -> Shape:
    found: Shape = request.param
    return found


def make_events(user: str) -> dict[str, dict[str, Any]]:
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


async def get_email(world: World, shape: Shape, user: str) -> str | None:
    row = await world.get_user(user)
    assert row
    found: str | None = row[shape.email_column]
    return found


def format_email(local: str) -> str:
    return f"{local}.{PII_SENTINEL}@example.com"


async def test_a_user_s_events_in_every_order_and_twice(world: World, shape: Shape) -> None:
    """After each delivery the row equals the fold of the events so far, and the app's data are unchanged (F1 to F4)."""
    for number, order in enumerate(permutations(["created", "updated", "deleted"])):
        user = f"user_{number}"
        events, life = make_events(user), Life(world, shape, user)
        for step in order:
            message_id = make_message_id()
            for _ in range(2):
                assert (await world.deliver(events[step], message_id)).status_code == 200
                life.apply(events[step])
                await life.check()
                if not life.is_in_use and not life.deleted:
                    await life.start_use()
                    await life.check()
        assert life.deleted


async def test_updates_keep_key_child_rows_and_the_app_s_columns(world: World, shape: Shape) -> None:
    """A repeated or older event changes no row."""
    for user, order in (("user_1", ("created", "updated")), ("user_2", ("updated", "created"))):
        events, life = make_events(user), Life(world, shape, user)
        for step in (*order, *order):
            await world.deliver(events[step])
            life.apply(events[step])
            await life.check()
            if not life.is_in_use:
                await life.start_use()
        before = await world.get_users()
        assert await world.deliver_ok(events["updated"]) == "applied"
        assert await world.get_users() == before


async def test_a_random_history_ends_as_its_fold(world: World, shape: Shape) -> None:
    """Twelve users have up to eight events each, delivered up to three times, concurrently, in any order (C5, F8)."""
    rng = random.Random(7)
    lives = [Life(world, shape, f"user_{number}") for number in range(12)]
    messages = []
    for life in lives:
        for at in range(rng.randint(3, 8)):
            kind = "user.deleted" if rng.random() < 0.1 else "user.updated"
            fields = make_email_fields(f"{life.user_id}.{at}") if rng.random() < 0.8 else {}
            body = make_event(kind, life.user_id, T1 + 1000 * at, **({} if kind == "user.deleted" else fields))
            life.apply(body)
            messages += [(body, make_message_id())] * rng.randint(1, 3)
    rng.shuffle(messages)
    responses = await asyncio.gather(*(world.deliver(body, message_id) for body, message_id in messages))
    assert {response.status_code for response in responses} == {200}
    for life in lives:
        await life.check()


async def test_two_users_without_an_email_are_two_rows(world: World, shape: Shape) -> None:
    """The email is NULL, or a placeholder of the user where the column is NOT NULL (E1, E2)."""
    for user in ("user_1", "user_2"):
        phone = {"id": "idn_p", "phone_number": "+15555550100"}
        body = make_event("user.created", user, phone_numbers=[phone], primary_phone_number_id="idn_p")
        assert await world.deliver_ok(body) == "applied"
        expected = shape.no_email and shape.no_email.format(user)
        assert await get_email(world, shape, user) == expected


async def test_an_email_is_added_and_removed(world: World, shape: Shape) -> None:
    """An update without an email clears the column (E4)."""
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    await world.deliver_ok(make_event("user.updated", "user_1", T2, **make_email_fields("a")))
    assert await get_email(world, shape, "user_1") == format_email("a")
    await world.deliver_ok(make_event("user.updated", "user_1", T3))
    assert await get_email(world, shape, "user_1") == (shape.no_email and shape.no_email.format("user_1"))


async def test_an_older_update_is_stale(world: World, shape: Shape) -> None:
    """An update that is older than the stored row is stale, and the row is unchanged (F2)."""
    newer, older = make_event("user.updated", "user_1", T3), make_event("user.updated", "user_1", T2, first_name="Old")
    assert await world.deliver_ok(newer) == "applied"
    message_id = make_message_id()
    assert await world.deliver_ok(older, message_id) == "stale"
    stored = await world.get_event(message_id)
    assert stored
    assert stored["status"] == "stale"
    row = await world.get_user("user_1")
    assert row
    assert shape.map_user(newer["data"]).items() <= row.items()


async def test_two_versions_with_one_timestamp_end_the_same_in_both_orders(
    world: World, shape: Shape, db: asyncpg.Connection
) -> None:
    """A tiebreak on the content makes the result independent of the order (F7)."""
    ends = []
    for order in (("Ada", "Grace"), ("Grace", "Ada")):
        for name in order:
            await world.deliver_ok(make_event("user.updated", "user_1", T1, first_name=name))
        row = await world.get_user("user_1")
        assert row
        ends.append({column: row[column] for column in shape.columns})
        await db.execute(f"delete from {world.table} where {quote_ident(world.mapping.id_column)} = 'user_1'")
        await db.execute("delete from clerk_sync.identities; delete from clerk_sync.events")
        world.accepted.clear()
    assert ends[0] == ends[1]


async def test_a_deletion_is_final_with_any_timestamp(world: World, shape: Shape) -> None:
    """A deletion wins with a timestamp in seconds, in milliseconds, 0, absent or in the past (F11)."""
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
            life.apply(step)
        await life.check()


async def test_a_deletion_of_an_unknown_user_is_applied(world: World) -> None:
    """The table is unchanged (C8)."""
    before = await world.get_users()
    assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
    assert await world.get_users() == before


@pytest.mark.parametrize("deleted_first", [True, False])
async def test_a_new_user_gets_the_email_of_a_deleted_one(world: World, shape: Shape, deleted_first: bool) -> None:
    """The email is free at once, or as soon as the deletion arrives (D1, D2, D8)."""
    await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
    steps = [
        make_event("user.deleted", "user_1", T2),
        make_event("user.created", "user_2", T3, **make_email_fields("e")),
    ]
    for step in steps if deleted_first else reversed(steps):
        assert await world.deliver_ok(step) == "applied"

    async def has_email() -> bool:
        return await get_email(world, shape, "user_2") == format_email("e")

    await wait_until(has_email, 15)
    deleted = Life(world, shape, "user_1", deleted=True)
    await deleted.check()


async def test_three_deletions_cause_no_unique_violation(world: World) -> None:
    """Three users are deleted one after the other, and each deletion is applied (D3)."""
    before = len(await world.get_users())
    for number in range(3):
        await world.deliver_ok(make_event("user.created", f"user_{number}", **make_email_fields(f"e{number}")))
    assert len(await world.get_users()) == before + 3
    for number in range(3):
        assert await world.deliver_ok(make_event("user.deleted", f"user_{number}")) == "applied"


async def test_two_users_swap_emails_in_every_order(world: World, shape: Shape) -> None:
    """Two users swap emails in three steps; all six orders of the steps end the same (D4)."""
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
        assert await get_email(world, shape, one) == format_email(b)
        assert await get_email(world, shape, two) == format_email(a)


async def test_metadata_write_no_column_of_the_app(world: World, shape: Shape) -> None:
    """Metadata with the names of the app's columns are written neither to these nor to the whole user (L9)."""
    claims = dict.fromkeys(["tier", "role", "is_coach", "headline", "persona"], "MAXX")
    body = make_event("user.created", "user_1", unsafe_metadata=claims, public_metadata=claims, private_metadata=claims)
    assert await world.deliver_ok(body) == "applied"
    row = await world.get_user("user_1")
    assert row
    document = row.pop("raw_json", {})
    assert document.keys().isdisjoint({"unsafe_metadata", "private_metadata"})
    assert "MAXX" not in str(row)
    life = Life(world, shape, "user_1")
    life.apply(body)
    await life.check()


async def test_a_long_name_is_cut_where_the_column_is_short(world: World, shape: Shape) -> None:
    """The limit counts characters, not bytes, and the event is applied."""
    life = Life(world, shape, "user_1")
    body = make_event("user.created", "user_1", first_name="ä" * 300, last_name="😀" * 300)
    assert await world.deliver_ok(body) == "applied"
    life.apply(body)
    await life.check()
