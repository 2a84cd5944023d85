"""A chat product with tiers: the Clerk ID is the key, the email is NOT NULL, the tier is the app's."""

from dataclasses import replace

import asyncpg
import pytest

from sync_service.mapping.fields import FieldSource
from tests.apps.shapes import TIERS, Shape
from tests.conftest import Serve
from tests.world import PII_SENTINEL, T0, T1, T2, T3, World, make_email_fields, make_event, make_message_id, wait_until


@pytest.fixture
def shape() -> Shape:
    return TIERS


async def test_a_placeholder_is_replaced_by_an_email(world: World) -> None:
    """A user with only a phone number adds an email later and removes it again."""
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    for at, data, shown in (
        (T2, make_email_fields("a"), f"a.{PII_SENTINEL}@example.com"),
        (T3, {}, "user_1@users.invalid"),
    ):
        await world.deliver_ok(make_event("user.updated", "user_1", at, **data))
        row = await world.get_user("user_1")
        assert row
        assert row["email"] == shown


async def test_the_older_of_two_claims_gets_a_placeholder_until_the_email_is_free(world: World) -> None:
    """The new user has the email, and its deletion returns the email to the older claim (D2)."""
    await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
    assert await world.deliver_ok(make_event("user.created", "user_2", T2, **make_email_fields("e"))) == "applied"
    first, second = await world.get_user("user_1"), await world.get_user("user_2")
    assert first
    assert second
    assert (first["email"], second["email"]) == ("user_1@users.invalid", f"e.{PII_SENTINEL}@example.com")
    await world.deliver_ok(make_event("user.deleted", "user_2"))

    async def has_email() -> bool:
        row = await world.get_user("user_1")
        return bool(row and row["email"] == f"e.{PII_SENTINEL}@example.com")

    await wait_until(has_email, 15)


async def test_the_tier_is_never_written_from_unmapped_metadata(world: World, db: asyncpg.Connection) -> None:
    """A new row has the default, and later events keep the app's value, for all three kinds of metadata (L9)."""
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


async def test_a_tier_mapped_from_public_metadata_follows_it(serve: Serve, db: asyncpg.Connection) -> None:
    """An explicit mapping is applied; a value that the check refuses is parked with the constraint's name (L9)."""
    columns = {**TIERS.mapping.columns, "tier": FieldSource("public_metadata.tier", when_null="FREE")}
    async with serve(mapping=replace(TIERS.mapping, columns=columns)) as world:
        for at, metadata, shown in ((T1, {}, "FREE"), (T2, {"tier": "MAXX"}, "MAXX"), (T3, {"tier": None}, "FREE")):
            await world.deliver_ok(make_event("user.updated", "user_1", at, public_metadata=metadata))
            assert await db.fetchval("select tier from users") == shown
        message_id = make_message_id()
        response = await world.deliver(
            make_event("user.updated", "user_1", T3 + 1, public_metadata={"tier": "X"}), message_id
        )
        assert (response.status_code, response.json()["reason"]) == (202, "check_violation")
        stored = await world.get_event(message_id)
        assert stored
        assert '"constraint": "users_tier_check"' in stored["failures"]
        world.accepted.clear()


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
async def test_times_without_a_zone_are_utc_in_any_server_zone(serve: Serve, db: asyncpg.Connection, zone: str) -> None:
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
    """`banned` and `locked` are written to their columns in both directions (K8)."""
    await db.execute("alter table users add banned boolean, add locked boolean not null default false")
    columns = {**TIERS.mapping.columns, "banned": FieldSource("banned"), "locked": FieldSource("locked")}
    async with serve(mapping=replace(TIERS.mapping, columns=columns)) as world:
        for at, state in ((T1, False), (T2, True), (T3, False)):
            await world.deliver_ok(make_event("user.updated", "user_1", at, banned=state, locked=state))
            row = await world.get_user("user_1")
            assert row
            assert (row["banned"], row["locked"]) == (state, state)
        await world.check_invariants()


@pytest.mark.parametrize("has_placeholder", [True, False])
async def test_a_soft_deletion_frees_the_email_with_a_placeholder(
    serve: Serve, db: asyncpg.Connection, has_placeholder: bool
) -> None:
    """Without a placeholder in a NOT NULL column, the next user with the email is parked (D8)."""
    await db.execute("alter table users add deleted_at timestamp")
    mapping = replace(TIERS.mapping, on_delete="soft", deleted_at="deleted_at")
    if not has_placeholder:
        mapping = replace(mapping, columns={**mapping.columns, "email": FieldSource("primary_email")})
    async with serve(mapping=mapping) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
        await db.execute("insert into rate_limits values ('user_1')")
        assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
        row = await world.get_user("user_1")
        assert row
        assert row["deleted_at"]
        assert (row["email"] == "user_1@users.invalid") is has_placeholder
        assert await db.fetchval("select count(*) from rate_limits") == 1
        response = await world.deliver(make_event("user.created", "user_2", T2, **make_email_fields("e")))
        assert response.json() == (
            {"outcome": "applied"} if has_placeholder else {"outcome": "parked", "reason": "email_conflict"}
        )
        if has_placeholder:
            await world.check_invariants()
