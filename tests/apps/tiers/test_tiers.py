"""A chat product with tiers: the Clerk ID is the key, an address is insisted on, the tier is the app's."""

from dataclasses import replace

import asyncpg
import pytest

from sync_service.mapping.sources import Column
from tests.apps.shapes import TIERS, Shape
from tests.conftest import Serve
from tests.world import PII_SENTINEL, T0, T1, T2, T3, World, make_email_fields, make_event, make_message_id, wait_until


@pytest.fixture
def shape() -> Shape:
    return TIERS


async def test_what_stands_in_for_an_address_makes_room_for_one(world: World) -> None:
    """A user with a phone only, who adds an address later, and takes it off again."""
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    for at, data, shown in (
        (T2, make_email_fields("a"), f"a.{PII_SENTINEL}@example.com"),
        (T3, {}, "user_1@users.invalid"),
    ):
        await world.deliver_ok(make_event("user.updated", "user_1", at, **data))
        row = await world.get_user("user_1")
        assert row
        assert row["email"] == shown


async def test_the_older_of_two_claims_shows_what_stands_in_until_the_address_is_free(world: World) -> None:
    """D2 where null is refused: the newcomer has the address, and gives it back by going."""
    await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
    assert await world.deliver_ok(make_event("user.created", "user_2", T2, **make_email_fields("e"))) == "applied"
    first, second = await world.get_user("user_1"), await world.get_user("user_2")
    assert first
    assert second
    assert (first["email"], second["email"]) == ("user_1@users.invalid", f"e.{PII_SENTINEL}@example.com")
    await world.deliver_ok(make_event("user.deleted", "user_2"))

    async def given_back() -> bool:
        row = await world.get_user("user_1")
        return bool(row and row["email"] == f"e.{PII_SENTINEL}@example.com")

    await wait_until(given_back, 15)


async def test_the_tier_is_the_app_s_whatever_a_user_says(world: World, db: asyncpg.Connection) -> None:
    """L9: the default at first, never written again, from whichever metadata."""
    claim = {"tier": "MAXX"}
    for at in (T1, T2):
        body = make_event(
            "user.updated", "user_1", at, unsafe_metadata=claim, public_metadata=claim, private_metadata=claim
        )
        await world.deliver_ok(body)
        assert await db.fetchval("select tier from users") == "FREE"
    await db.execute("update users set tier = 'PRO'")
    await world.deliver_ok(make_event("user.updated", "user_1", T3, public_metadata=claim))
    assert await db.fetchval("select tier from users") == "PRO"


async def test_a_tier_that_is_mapped_from_public_metadata_follows_it(serve: Serve, db: asyncpg.Connection) -> None:
    """L9: only where the owner says so; what its check refuses is parked with the constraint's name."""
    columns = {**TIERS.mapping.columns, "tier": Column("public_metadata.tier", when_null="FREE")}
    async with serve(mapping=replace(TIERS.mapping, columns=columns)) as world:
        for at, said, shown in ((T1, {}, "FREE"), (T2, {"tier": "MAXX"}, "MAXX"), (T3, {"tier": None}, "FREE")):
            await world.deliver_ok(make_event("user.updated", "user_1", at, public_metadata=said))
            assert await db.fetchval("select tier from users") == shown
        message_id = make_message_id()
        answer = await world.deliver(
            make_event("user.updated", "user_1", T3 + 1, public_metadata={"tier": "X"}), message_id
        )
        assert (answer.status_code, answer.json()["reason"]) == (202, "check_violation")
        filed = await world.get_event(message_id)
        assert filed
        assert '"constraint": "users_tier_check"' in filed["failures"]
        world.accepted.clear()


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
async def test_times_without_a_zone_are_utc_whatever_the_server_s_zone(
    serve: Serve, db: asyncpg.Connection, zone: str
) -> None:
    name = await db.fetchval("select current_database()")
    await db.execute(f"alter database {name} set timezone = '{zone}'; alter table users add deleted_at timestamp")
    async with serve(mapping=replace(TIERS.mapping, on_delete="soft", deleted_at="deleted_at")) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1))
        await world.deliver_ok(make_event("user.deleted", "user_1"))
        row = await db.fetchrow(
            "select extract(epoch from created_at)::bigint * 1000 as created_at,"
            " abs(extract(epoch from deleted_at) - extract(epoch from now())) < 60 as just_deleted from users"
        )
        assert row
        assert (row["created_at"], row["just_deleted"]) == (T0, True)


async def test_a_ban_is_a_column_and_not_a_deletion(serve: Serve, db: asyncpg.Connection) -> None:
    """K8."""
    await db.execute("alter table users add banned boolean, add locked boolean not null default false")
    columns = {**TIERS.mapping.columns, "banned": Column("banned"), "locked": Column("locked")}
    async with serve(mapping=replace(TIERS.mapping, columns=columns)) as world:
        for at, state in ((T1, False), (T2, True), (T3, False)):
            await world.deliver_ok(make_event("user.updated", "user_1", at, banned=state, locked=state))
            row = await world.get_user("user_1")
            assert row
            assert (row["banned"], row["locked"]) == (state, state)
        await world.check_invariants()


@pytest.mark.parametrize("stands_in", [True, False])
async def test_a_soft_deletion_frees_the_address_where_something_can_stand_in(
    serve: Serve, db: asyncpg.Connection, stands_in: bool
) -> None:
    """D8. Where null is refused and nothing stands in, the next who has the address waits, and somebody is told."""
    await db.execute("alter table users add deleted_at timestamp")
    mapping = replace(TIERS.mapping, on_delete="soft", deleted_at="deleted_at")
    if not stands_in:
        mapping = replace(mapping, columns={**mapping.columns, "email": Column("primary_email")})
    async with serve(mapping=mapping) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
        await db.execute("insert into rate_limits values ('user_1')")
        assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
        row = await world.get_user("user_1")
        assert row
        assert row["deleted_at"]
        assert (row["email"] == "user_1@users.invalid") is stands_in
        assert await db.fetchval("select count(*) from rate_limits") == 1
        answer = await world.deliver(make_event("user.created", "user_2", T2, **make_email_fields("e")))
        assert answer.json() == (
            {"outcome": "applied"} if stands_in else {"outcome": "parked", "reason": "email_conflict"}
        )
        if stands_in:
            await world.check_invariants()
