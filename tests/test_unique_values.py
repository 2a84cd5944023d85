"""Unique values that Clerk owns: the newer claim is shown, and the other row gets its value back, under every rule."""

import asyncio
from typing import Any

import asyncpg
import pytest

from sync_service.mapping.toml import parse_mapping
from sync_service.settings import Settings
from tests.clerk_stub import ClerkStub
from tests.sync_requests import build_settings
from tests.world import T1, T2, T3, World, make_event, make_message_id, run_world, wait_until

pytestmark = pytest.mark.every_postgres

TABLE = "create table people (id serial primary key, clerk_id text unique not null, {columns});"
TOML = """
[users]
table = "people"
clerk_id = "clerk_id"
[users.columns]
{columns}
"""


def make_mapping(*columns: str) -> Any:
    return parse_mapping(TOML.format(columns="\n".join(columns)))


def make_address(address: str) -> dict[str, Any]:
    """Return the fields of a user with exactly this email."""
    verification = {"status": "verified", "strategy": "email_code"}
    email = {"id": "idn_1", "object": "email_address", "email_address": address, "verification": verification}
    return {"email_addresses": [email], "primary_email_address_id": "idn_1"}


def make_phone(number: str) -> dict[str, Any]:
    phone = {"id": "idn_2", "object": "phone_number", "phone_number": number, "verification": {"status": "verified"}}
    return {"phone_numbers": [phone], "primary_phone_number_id": "idn_2"}


async def get_values(db: asyncpg.Connection, column: str) -> dict[str, Any]:
    rows = await db.fetch(f"select clerk_id, {column}::text as value from people")
    return {row["clerk_id"]: row["value"] for row in rows}


async def check_claims(world: World, column: str, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Check that the newer claim is shown in each order, and that the loser's value returns once it is free."""
    db = world.db
    assert await world.deliver_ok(make_event("user.created", "user_1", T1, **first)) == "applied"
    shown = (await get_values(db, column))["user_1"]
    assert shown
    assert await world.deliver_ok(make_event("user.created", "user_2", T2, **second)) == "applied"
    assert (await get_values(db, column))["user_1"] is None
    assert (await get_values(db, column))["user_2"] is not None
    assert await world.deliver_ok(make_event("user.updated", "user_3", T1 - 1, **first)) == "applied"  # an older claim
    values = await get_values(db, column)
    assert (values["user_1"], values["user_3"]) == (None, None)
    await world.deliver_ok(make_event("user.deleted", "user_3"))
    await world.deliver_ok(make_event("user.updated", "user_2", T3))

    async def is_restored() -> bool:
        return bool((await get_values(db, column))["user_1"] == shown)

    await wait_until(is_restored, 20)
    assert not await db.fetchval("select bool_or(email_pending) from clerk_sync.identities")


OWNED = {
    "username": ({"username": "ada"}, {"username": "ada"}),
    "phone": (make_phone("+15550100"), make_phone("+15550100")),
    "external_id": ({"external_id": "42"}, {"external_id": "42"}),
}


@pytest.mark.parametrize("column", OWNED)
async def test_each_unique_value_of_clerk_follows_the_newer_claim(
    settings: Settings, db: asyncpg.Connection, column: str
) -> None:
    await db.execute(
        TABLE.format(columns="email text unique, username text unique, phone text unique, external_id text unique")
    )
    mapping = make_mapping(
        'email = "primary_email"', 'username = "username"', 'phone = "primary_phone"', 'external_id = "external_id"'
    )
    async with run_world(settings, db, mapping=mapping) as world:
        await check_claims(world, column, *OWNED[column])


RULES = {
    "partial": "create unique index on people (email) where deleted_at is null",
    "include": "create unique index on people (email) include (id)",
    "lower": "create unique index on people (lower(email))",
    "lower trim": "create unique index on people (lower(trim(email)))",
    "generated": "alter table people add email_lower text generated always as (lower(email)) stored;"
    "create unique index on people (email_lower)",
    "deferrable": "alter table people add unique (email) deferrable initially deferred",
    "deferrable immediate": "alter table people add unique (email) deferrable initially immediate",
    "exclude": "alter table people add exclude using btree (email with =)",
    "exclude hash of an expression": "alter table people add exclude using hash (lower(email) with =)",
    "tenant": "alter table people add unique (tenant_id, email)",
    "tenant expression": "create unique index on people (coalesce(tenant_id, 0), lower(email))",
    "two rules": "alter table people add unique (email); create unique index on people (lower(email), tenant_id)",
    "domain": "create domain address as text; alter table people alter email type address, add unique (email)",
    "collation": "create collation folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
    "create unique index on people (email collate folded)",
    "quoted": 'alter table people rename email to "E-Mail"; create unique index on people (lower("E-Mail"))',
    "varchar": "alter table people alter email type varchar(200), add unique (email)",
}
FOLDING = frozenset(
    ("lower", "lower trim", "generated", "exclude hash of an expression", "tenant expression", "collation", "quoted")
)


@pytest.mark.parametrize("rule", RULES)
async def test_every_kind_of_unique_rule_lets_the_newer_claim_win(
    settings: Settings, db: asyncpg.Connection, rule: str
) -> None:
    column = '"E-Mail"' if rule == "quoted" else "email"
    await db.execute(TABLE.format(columns="email text, tenant_id int default 1, deleted_at timestamptz"))
    try:
        await db.execute(RULES[rule])
    except asyncpg.FeatureNotSupportedError:
        pytest.skip("this PostgreSQL has no ICU")
    second = "ann@example.com" if rule in FOLDING else "Ann@example.com"
    async with run_world(settings, db, mapping=make_mapping(f'{column} = "primary_email"')) as world:
        await check_claims(world, column, make_address("Ann@example.com"), make_address(second))


async def test_where_one_row_may_have_null_the_value_is_handed_over_once(
    settings: Settings, db: asyncpg.Connection
) -> None:
    """With NULLS NOT DISTINCT a second row without the value is impossible, so the event waits."""
    if db.get_server_version().major < 15:
        pytest.skip("needs PostgreSQL 15")
    await db.execute(TABLE.format(columns="email text, constraint one_email unique nulls not distinct (email)"))
    async with run_world(settings, db, mapping=make_mapping('email = "primary_email"')) as world:
        address = make_address("ann@example.com")
        await world.deliver_ok(make_event("user.created", "user_1", T1, **address))
        assert await world.deliver_ok(make_event("user.created", "user_2", T2, **address)) == "applied"
        assert await get_values(db, "email") == {"user_1": None, "user_2": "ann@example.com"}
        message_id = make_message_id()
        assert await world.deliver_ok(make_event("user.created", "user_3", T3, **address), message_id) == "parked"
        stored = await world.get_event(message_id)
        assert stored
        assert '"constraint": "one_email"' in stored["failures"]


async def test_rows_of_two_tenants_keep_the_same_value(settings: Settings, db: asyncpg.Connection) -> None:
    await db.execute(TABLE.format(columns="email text, tenant_id int default 1, unique (tenant_id, email)"))
    await db.execute("insert into people (clerk_id, tenant_id) values ('user_2', 2)")
    async with run_world(settings, db, mapping=make_mapping('email = "primary_email"')) as world:
        for user_id in ("user_1", "user_2", "user_3"):
            address = make_address("ann@example.com")
            await world.deliver_ok(make_event("user.updated", user_id, T1 + int(user_id[-1]), **address))
    values = await get_values(db, "email")
    assert values == {"user_1": None, "user_2": "ann@example.com", "user_3": "ann@example.com"}


async def test_citext_outside_the_search_path_is_compared_by_its_own_operator(
    settings: Settings, db: asyncpg.Connection
) -> None:
    try:
        await db.execute("create schema extensions; create extension citext schema extensions")
    except asyncpg.PostgresError:
        pytest.skip("the extension citext is not installed")
    await db.execute(TABLE.format(columns="email extensions.citext unique"))
    async with run_world(settings, db, mapping=make_mapping('email = "primary_email"')) as world:
        await check_claims(world, "email", make_address("Ann@Example.com"), make_address("ann@example.com"))


HOSTILE = """
create schema hostile;
create function hostile.lower(text) returns text language sql immutable as $$ select 'replaced'::text $$;
create function hostile.now() returns timestamptz language sql as $$ select 'infinity'::timestamptz $$;
create function hostile.refuse(text, text) returns boolean language plpgsql as $$
begin raise exception 'the operator of another schema'; end $$;
create operator hostile.= (leftarg = text, rightarg = text, function = hostile.refuse);
"""


async def test_operators_and_functions_of_another_schema_are_not_used(
    settings: Settings, db: asyncpg.Connection
) -> None:
    """The role's search_path names another schema before pg_catalog; triggers keep the rest of their path."""
    await db.execute(HOSTILE + TABLE.format(columns="email text"))
    await db.execute("create unique index on people (lower(email))")
    await db.execute(
        "create function note() returns trigger language plpgsql as"
        " $$ begin insert into notes values (new.clerk_id); return null; end $$;"
        " create table notes (clerk_id text);"
        " create trigger note after insert on people for each row execute function note()"
    )
    name = await db.fetchval("select current_database()")
    await db.execute(f"alter database {name} set search_path = hostile, pg_catalog, public")
    async with run_world(settings, db, mapping=make_mapping('email = "primary_email"')) as world:
        await check_claims(world, "email", make_address("Ann@example.com"), make_address("ann@example.com"))
        assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
    assert await db.fetchval("select count(*) from notes") == 3
    assert await db.fetchval("select max(received_at) < 'infinity' from clerk_sync.events")


async def test_a_row_can_lose_two_values_to_two_users(settings: Settings, db: asyncpg.Connection) -> None:
    await db.execute(TABLE.format(columns="email text unique, username text unique"))
    mapping = make_mapping('email = "primary_email"', 'username = "username"')
    async with run_world(settings, db, mapping=mapping) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T2, **make_address("a@example.com")))
        await world.deliver_ok(make_event("user.created", "user_2", T2, username="ada"))
        loser = make_address("a@example.com") | {"username": "ada"}
        assert await world.deliver_ok(make_event("user.created", "user_3", T1, **loser)) == "applied"
        assert (await get_values(db, "email"))["user_3"] is None
        await world.deliver_ok(make_event("user.updated", "user_2", T3))

        async def has_username() -> bool:
            return bool((await get_values(db, "username"))["user_3"] == "ada")

        await wait_until(has_username, 20)
        assert (await get_values(db, "email"))["user_3"] is None


async def test_a_required_column_shows_its_stand_in(settings: Settings, db: asyncpg.Connection) -> None:
    await db.execute(TABLE.format(columns="username text not null unique"))
    mapping = make_mapping('username = { from = "username", when_null = "{clerk_id}" }')
    async with run_world(settings, db, mapping=mapping) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, username="ada"))
        await world.deliver_ok(make_event("user.created", "user_2", T2, username="ada"))
    assert await get_values(db, "username") == {"user_1": "user_1", "user_2": "ada"}


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        ("username text not null constraint one_name unique", "one_name"),
        ("username text, first_name text constraint one_first unique", "one_first"),
    ],
    ids=["no value to fall back to", "not Clerk's value"],
)
async def test_a_rule_that_cannot_be_settled_parks_with_its_name(
    settings: Settings, db: asyncpg.Connection, columns: str, constraint: str
) -> None:
    await db.execute(TABLE.format(columns=columns))
    mapping = make_mapping('username = "username"', *(['first_name = "first_name"'] if "first" in columns else []))
    async with run_world(settings, db, mapping=mapping) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, username="ada"))
        message_id = make_message_id()
        response = await world.deliver(make_event("user.created", "user_2", T2, username="ada"), message_id)
        assert (response.status_code, response.json()["reason"]) == (202, "unique_violation")
        stored = await world.get_event(message_id)
        assert stored
        assert f'"constraint": "{constraint}"' in stored["failures"]


async def test_clerk_is_asked_about_the_user_who_lost_the_value(
    settings: Settings, db: asyncpg.Connection, clerk: ClerkStub
) -> None:
    """An update of that user was lost: Clerk's answer has no username, so the row is not pending any more."""
    await db.execute(TABLE.format(columns="username text unique"))
    changes = build_settings(clerk) | {"mapping": make_mapping('username = "username"')}
    async with run_world(settings, db, **changes) as world:
        clerk.add_user("user_1", T2, username=None)
        await world.deliver_ok(make_event("user.created", "user_1", T1, username="ada"))
        await world.deliver_ok(make_event("user.created", "user_2", T3, username="ada"))

        async def is_settled() -> bool:
            sql = "select version from clerk_sync.identities where clerk_id = 'user_1' and not email_pending"
            return bool(await db.fetchval(sql) == T2)

        await wait_until(is_settled, 20)
    assert await get_values(db, "username") == {"user_1": None, "user_2": "ada"}


async def test_many_claims_at_once_leave_one_row_with_the_value(settings: Settings, db: asyncpg.Connection) -> None:
    await db.execute(TABLE.format(columns="username text, exclude using btree (username with =)"))
    async with run_world(settings, db, mapping=make_mapping('username = "username"')) as world:
        claims = [make_event("user.created", f"user_{n}", T1 + n, username="ada") for n in range(8)]
        responses = await asyncio.gather(*(world.deliver(body) for body in claims))
        assert {response.status_code for response in responses} <= {200, 202}

        async def is_complete() -> bool:
            values = await get_values(db, "username")
            return len(values) == 8 and values["user_7"] == "ada"

        await wait_until(is_complete, 30)
