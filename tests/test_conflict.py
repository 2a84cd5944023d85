"""Two users and one address (SCENARIOS D): the newer claim is shown, the other waits, and every order ends right."""

import asyncio
from dataclasses import replace
from functools import partial
from itertools import permutations

import asyncpg
import pytest

from sync_service.clerk.events import read_event
from sync_service.dsn import clean_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.pool import open_pool
from sync_service.postgres.statements import Statements
from sync_service.sync.apply import Applier
from sync_service.sync.parking import Outcome
from tests.world import (
    PII_SENTINEL,
    T0,
    T1,
    T2,
    T3,
    World,
    encode_body,
    make_email_fields,
    make_event,
    make_message_id,
    wait_until,
)


def address(local: str) -> str:
    return f"{local}.{PII_SENTINEL}@example.com"


async def email_of(world: World, user_id: str) -> str | None:
    row = await world.get_user(user_id)
    assert row
    found: str | None = row["email"]
    return found


async def test_an_address_is_free_for_whoever_signs_up_after_a_deletion(world: World) -> None:
    """D1."""
    for body in (
        make_event("user.created", "user_1", T1, **make_email_fields("e")),
        make_event("user.deleted", "user_1", T2),
        make_event("user.created", "user_2", T3, **make_email_fields("e")),
    ):
        assert await world.deliver_ok(body) == "applied"
    assert await world.get_user("user_1") is None
    assert await email_of(world, "user_2") == address("e")


@pytest.mark.parametrize("newer", [True, False])
async def test_a_sign_up_that_comes_before_the_deletion_has_the_address_in_the_end(world: World, newer: bool) -> None:
    """D2: whichever of the two is newer, for the first may have signed in just before he went."""
    await world.deliver_ok(make_event("user.created", "user_1", T2, **make_email_fields("e")))
    assert (
        await world.deliver_ok(make_event("user.created", "user_2", T3 if newer else T1, **make_email_fields("e")))
        == "applied"
    )
    assert await email_of(world, "user_2" if newer else "user_1") == address("e")
    assert await email_of(world, "user_1" if newer else "user_2") is None
    await world.deliver_ok(make_event("user.deleted", "user_1"))

    async def shown() -> bool:
        return await email_of(world, "user_2") == address("e")

    await wait_until(shown, 15)
    assert await world.get_user("user_1") is None


async def test_three_deletions_in_a_row_are_no_violation(world: World) -> None:
    """D3."""
    for number in range(3):
        await world.deliver_ok(make_event("user.created", f"user_{number}", T1, **make_email_fields(f"e{number}")))
    for number in range(3):
        assert await world.deliver_ok(make_event("user.deleted", f"user_{number}")) == "applied"
    assert await world.get_users() == []


async def test_a_swap_ends_right_in_every_order(world: World) -> None:
    """D4: user_1 gives a@ up, user_2 takes it, user_1 takes b@; in all six orders, each with users of its own."""
    for number, order in enumerate(permutations(range(3))):
        one, two, a, b = f"user_{number}_1", f"user_{number}_2", f"a{number}", f"b{number}"
        await world.deliver_ok(make_event("user.created", one, T0, **make_email_fields(a)))
        await world.deliver_ok(make_event("user.created", two, T0, **make_email_fields(b)))
        steps = [
            make_event("user.updated", one, T1, **make_email_fields(f"tmp{number}")),
            make_event("user.updated", two, T2, **make_email_fields(a)),
            make_event("user.updated", one, T3, **make_email_fields(b)),
        ]
        for step in order:
            assert await world.deliver_ok(steps[step]) in {"applied", "stale"}
        assert (await email_of(world, one), await email_of(world, two)) == (address(b), address(a))


async def test_a_row_that_the_service_never_wrote_keeps_its_address(world: World, db: asyncpg.Connection) -> None:
    """D7: the newcomer shows none, and is given it once an event shows that the other has another."""
    await db.execute(
        "insert into users (id, email, email_verified, banned, locked, public_metadata)"
        " values ('user_9', $1, true, false, false, '{}')",
        address("e"),
    )
    assert await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e"))) == "applied"
    assert await email_of(world, "user_9") == address("e")
    assert await email_of(world, "user_1") is None
    assert await db.fetchval("select address_wanted from clerk_sync.identities where clerk_id = 'user_1'")
    await world.deliver_ok(make_event("user.updated", "user_9", T1, **make_email_fields("other")))

    async def shown() -> bool:
        return await email_of(world, "user_1") == address("e")

    await wait_until(shown, 15)
    assert not await db.fetchval("select address_wanted from clerk_sync.identities where clerk_id = 'user_1'")


async def test_many_claims_at_once_end_with_the_newest(world: World) -> None:
    """Two users are never merged, and the address is shown once."""
    claims = [make_event("user.created", f"user_{n}", T1 + n, **make_email_fields("e")) for n in range(12)]
    answers = await asyncio.gather(*(world.deliver(body) for body in claims))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len(await world.get_users()) >= 1

    async def all_there() -> bool:
        return len(await world.get_users()) == 12 and await email_of(world, "user_11") == address("e")

    await wait_until(all_there, 30)


async def test_with_park_the_event_waits_with_its_reason(database: str, db: asyncpg.Connection) -> None:
    pool = await open_pool(clean_dsn(database))
    applier = Applier(pool, Statements(replace(DEFAULT, email_conflict="park")))
    first, second = (
        read_event(
            make_message_id(), encode_body(make_event("user.created", f"user_{n}", T1 + n, **make_email_fields("e")))
        )
        for n in (1, 2)
    )
    assert await applier.apply([first]) == [Outcome("applied")]
    assert await applier.apply([second]) == [Outcome("parked", "email_conflict")]
    assert await db.fetchval("select count(*) from users") == 1
    await pool.close()


async def test_two_who_claim_each_other_s_address_at_once_are_both_answered(world: World) -> None:
    """Each settles by locking the other: a deadlock, which is tried again and not told."""
    for turn in range(15):
        one, two = f"user_{turn}_1", f"user_{turn}_2"
        await world.deliver_ok(make_event("user.created", one, T0, **make_email_fields(f"a{turn}")))
        await world.deliver_ok(make_event("user.created", two, T0, **make_email_fields(f"b{turn}")))
        answers = await asyncio.gather(
            world.deliver(make_event("user.updated", one, T2, **make_email_fields(f"b{turn}"))),
            world.deliver(make_event("user.updated", two, T3, **make_email_fields(f"a{turn}"))),
        )
        assert [answer.status_code for answer in answers] == [200, 200]
        # Who has seen the other's address an instant before it was given up gets it from the background.
        await wait_until(partial(_shows, world, one, f"b{turn}"))
        await wait_until(partial(_shows, world, two, f"a{turn}"))


async def _shows(world: World, user_id: str, local: str) -> bool:
    return await email_of(world, user_id) == address(local)
