"""Two users with one email: the newer claim has it, the other user gets it once it is free."""

import asyncio
from dataclasses import replace
from functools import partial
from itertools import permutations

import asyncpg
import pytest

from sync_service.clerk.events import parse_event
from sync_service.dsn import parse_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.pool import open_database
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from sync_service.sync.outcome import Outcome
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

pytestmark = pytest.mark.every_postgres


def format_email(local: str) -> str:
    return f"{local}.{PII_SENTINEL}@example.com"


async def get_email(world: World, user_id: str) -> str | None:
    row = await world.get_user(user_id)
    assert row
    found: str | None = row["email"]
    return found


async def test_a_deletion_frees_the_email_for_a_later_user(world: World) -> None:
    """A user created after the deletion of another gets that user's email (D1)."""
    for body in (
        make_event("user.created", "user_1", T1, **make_email_fields("e")),
        make_event("user.deleted", "user_1", T2),
        make_event("user.created", "user_2", T3, **make_email_fields("e")),
    ):
        assert await world.deliver_ok(body) == "applied"
    assert await world.get_user("user_1") is None
    assert await get_email(world, "user_2") == format_email("e")


@pytest.mark.parametrize("newer", [True, False])
async def test_a_sign_up_before_the_deletion_gets_the_email_in_the_end(world: World, newer: bool) -> None:
    """The second user gets the email after the deletion, whichever version is newer (D2).

    The first user's version may be the newer one, because a sign-in just before the deletion updates it.
    """
    await world.deliver_ok(make_event("user.created", "user_1", T2, **make_email_fields("e")))
    assert (
        await world.deliver_ok(make_event("user.created", "user_2", T3 if newer else T1, **make_email_fields("e")))
        == "applied"
    )
    assert await get_email(world, "user_2" if newer else "user_1") == format_email("e")
    assert await get_email(world, "user_1" if newer else "user_2") is None
    await world.deliver_ok(make_event("user.deleted", "user_1"))

    async def has_email() -> bool:
        return await get_email(world, "user_2") == format_email("e")

    await wait_until(has_email, 15)
    assert await world.get_user("user_1") is None


async def test_three_deletions_cause_no_unique_violation(world: World) -> None:
    """Three users are deleted one after the other, each with 200 (D3)."""
    for number in range(3):
        await world.deliver_ok(make_event("user.created", f"user_{number}", T1, **make_email_fields(f"e{number}")))
    for number in range(3):
        assert await world.deliver_ok(make_event("user.deleted", f"user_{number}")) == "applied"
    assert await world.get_users() == []


async def test_a_swap_of_emails_ends_correctly_in_every_order(world: World) -> None:
    """Two users swap emails in three steps; all six orders of the steps end the same (D4)."""
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
        assert (await get_email(world, one), await get_email(world, two)) == (format_email(b), format_email(a))


async def test_a_row_that_the_service_never_wrote_keeps_its_email(world: World, db: asyncpg.Connection) -> None:
    """A row without an identity keeps its email until an event for it shows another one (D7).

    Until then the new user's email is NULL.
    """
    await db.execute(
        "insert into users (id, email, email_verified, banned, locked, public_metadata)"
        " values ('user_9', $1, true, false, false, '{}')",
        format_email("e"),
    )
    assert await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e"))) == "applied"
    assert await get_email(world, "user_9") == format_email("e")
    assert await get_email(world, "user_1") is None
    assert await db.fetchval("select email_pending from clerk_sync.identities where clerk_id = 'user_1'")
    await world.deliver_ok(make_event("user.updated", "user_9", T1, **make_email_fields("other")))

    async def has_email() -> bool:
        return await get_email(world, "user_1") == format_email("e")

    await wait_until(has_email, 15)
    assert not await db.fetchval("select email_pending from clerk_sync.identities where clerk_id = 'user_1'")


async def test_many_claims_at_once_end_with_the_newest(world: World) -> None:
    """Twelve users with one email stay twelve rows, and the newest user has the email."""
    claims = [make_event("user.created", f"user_{n}", T1 + n, **make_email_fields("e")) for n in range(12)]
    responses = await asyncio.gather(*(world.deliver(body) for body in claims))
    assert {response.status_code for response in responses} <= {200, 202}
    assert len(await world.get_users()) >= 1

    async def is_complete() -> bool:
        return len(await world.get_users()) == 12 and await get_email(world, "user_11") == format_email("e")

    await wait_until(is_complete, 30)


async def test_with_park_the_event_waits_with_its_reason(database: str, db: asyncpg.Connection) -> None:
    pool = await open_database(parse_dsn(database))
    applier = Applier(Store(pool, replace(DEFAULT, email_conflict="park")))
    first, second = (
        parse_event(
            make_message_id(), encode_body(make_event("user.created", f"user_{n}", T1 + n, **make_email_fields("e")))
        )
        for n in (1, 2)
    )
    assert await applier.apply([first]) == [Outcome("applied")]
    assert await applier.apply([second]) == [Outcome("parked", "email_conflict")]
    assert await db.fetchval("select count(*) from users") == 1
    await pool.aclose()


async def test_concurrent_claims_of_each_other_s_email_both_succeed(world: World) -> None:
    """Each of the two transactions locks the other's row; PostgreSQL reports a deadlock, which the service retries."""
    for turn in range(15):
        one, two = f"user_{turn}_1", f"user_{turn}_2"
        await world.deliver_ok(make_event("user.created", one, T0, **make_email_fields(f"a{turn}")))
        await world.deliver_ok(make_event("user.created", two, T0, **make_email_fields(f"b{turn}")))
        responses = await asyncio.gather(
            world.deliver(make_event("user.updated", one, T2, **make_email_fields(f"b{turn}"))),
            world.deliver(make_event("user.updated", two, T3, **make_email_fields(f"a{turn}"))),
        )
        assert [response.status_code for response in responses] == [200, 200]
        # A user that saw the email before it was free gets it from background maintenance.
        await wait_until(partial(_has_email, world, one, f"b{turn}"))
        await wait_until(partial(_has_email, world, two, f"a{turn}"))


async def _has_email(world: World, user_id: str, local: str) -> bool:
    return await get_email(world, user_id) == format_email(local)
