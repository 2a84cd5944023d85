"""Unedited suggestions for applications of several frameworks: their rules, and the life of a user with them."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sync_service.dev.embedded import EmbeddedServer
from sync_service.mapping.toml import parse_mapping
from sync_service.postgres.migrate import migrate
from sync_service.settings import Settings
from sync_service.suggest.overview import Overview
from sync_service.suggest.overview_reader import read_overview
from sync_service.suggest.rendering import list_unsolved, render_suggestion
from sync_service.suggest.rows import read_evidence
from sync_service.suggest.tables import list_candidates
from tests.apps.conftest import open_connection
from tests.conftest import cache_catalog
from tests.world import T1, T2, T3, World, make_email_fields, make_event, run_world

FOLDER = Path(__file__).parent / "suggested"
APPS = sorted(file.stem for file in FOLDER.glob("*.sql"))
PLACEHOLDER = "{clerk_id}@users.invalid"

EMAIL = {"from": "primary_email", "when_null": PLACEHOLDER}
NOW, NOW_ONCE = {"generate": "now"}, {"generate": "now", "write": "insert"}


def once(value: Any) -> dict[str, Any]:
    return {"constant": value, "write": "insert"}


def keep(source: str, **more: Any) -> dict[str, Any]:
    return {"from": source, **more, "on_null": "keep"}


# By the application: the table, the Clerk ID, the rules of the columns, and the marks of a deletion.
EXPECTED: dict[str, tuple[str, str, dict[str, Any], dict[str, Any] | None]] = {
    "salon": (
        "salon.Customer",
        "clerkUuid",
        {
            "id": {"generate": "cuid"},
            "email": EMAIL,
            "displayName": keep("full_name", when_null=""),
            "profileImage": "image_url",
            "role": once("CLIENT"),
            "loyaltyPoints": once(0),
            "updatedAt": NOW,
        },
        None,
    ),
    "council": (
        "council.core_user",
        "clerk_sub",
        {
            "id": {"generate": "uuid4"},
            "password": once("!"),
            "is_superuser": once(value=False),
            "username": {"from": "username", "when_null": "{clerk_id}", "write": "insert"},
            "first_name": keep("first_name", when_null=""),
            "last_name": keep("last_name", when_null=""),
            "email": EMAIL,
            "is_staff": once(value=False),
            "is_active": once(value=True),
            "date_joined": NOW_ONCE,
        },
        {"is_active": False},
    ),
    "bakery": (
        "bakery.members",
        "auth_ref",
        {
            "login_email": "primary_email",
            "name": keep("full_name"),
            "created_at": NOW_ONCE,
            "updated_at": NOW,
        },
        {"discarded_at": NOW},
    ),
    "ferry": (
        "ferry.passengers",
        "clerk_id",
        {
            "id": {"generate": "cuid2"},
            "email": "primary_email",
            "phone": keep("primary_phone"),
            "username": keep("username"),
            "locale": once("nb"),
            "is_subscribed": once(value=False),
            "updated_at": NOW,
        },
        None,
    ),
    "mill": (
        "mill.user_account",
        "external_user_id",
        {
            "id": {"generate": "uuid7"},
            "user_email": EMAIL,
            "given_name": keep("first_name", when_null="{clerk_id}"),
            "state": once("active"),
            "settings": once({}),
            "tags": once([]),
            "referral_code": {"generate": "nanoid(10)", "write": "insert"},
            "quota": once(1),
            "created_at": NOW_ONCE,
            "updated_at": NOW,
        },
        {"state": "closed"},
    ),
    "lodge": (
        "lodge.owners",
        "auth_ref",
        {
            "contact_email": EMAIL,
            "first": keep("first_name", when_null=""),
            "last": keep("last_name", when_null=""),
            "secret": {"generate": "sk_live_{nanoid(20)}", "write": "insert"},
            "photo_url": keep("image_url"),
            "modified_on": NOW,
        },
        {"disabled": True},
    ),
    "canal": (
        "canal.users",
        "uid",
        {
            "provider": once("clerk"),
            "email": EMAIL,
            "billing_email": EMAIL | {"when_null": "", "write": "insert"},
            "quota_mb": once(500),
            "visits": once(0),
            "activated": once(value=True),
            "created_at": NOW_ONCE,
            "updated_at": NOW,
        },
        {"deleted_at": NOW},
    ),
    "grove": (
        "grove.members",
        "external_auth_id",
        {"email": EMAIL, "preferred_locale": once("en")},
        {"deleted_at": NOW, "status": "deleted"},
    ),
    "harbor": ("harbor.users", "clerk_user_id", {"email": "primary_email"}, None),
    "press": (
        "press.accounts",
        "clerk_ref",
        {
            "id": {"generate": "acc_{ulid}"},
            "email": EMAIL,
            "full_name": "full_name",
            "role_id": once(2),
            "banned": once(value=False),
            "created_at": NOW_ONCE,
        },
        {"deleted_at": NOW},
    ),
}


@pytest.fixture(scope="session")
async def template(engine: EmbeddedServer) -> str:
    """The name of a database with a schema for each application."""
    async with open_connection(engine.dsn()) as admin:
        await admin.execute("create database template_suggested template template0")
    async with open_connection(engine.dsn("template_suggested")) as connection:
        await migrate(connection)
        for app in APPS:
            await connection.execute(f"create schema {app};" + (FOLDER / f"{app}.sql").read_text())
    await cache_catalog(engine.dsn("template_suggested"))
    return "template_suggested"


async def suggest_all(connection: asyncpg.Connection) -> Mapping[str, str]:
    """Return the suggestion for each application, as if it were alone in the database."""
    everything = await read_overview(connection)
    texts = {}
    for app in APPS:
        overview = Overview([table for table in everything.tables if table.schema == app], everything.ids)
        candidates = list_candidates(overview)
        facts = await read_evidence(connection, overview, *candidates[0].table.id)
        assert facts
        assert not list_unsolved(facts)
        texts[app] = render_suggestion(facts, candidates)
    return texts


async def test_each_application_gets_its_own_rules(db: asyncpg.Connection) -> None:
    assert sorted(EXPECTED) == APPS
    texts = await suggest_all(db)
    for app, text in texts.items():
        table, clerk_id, columns, marks = EXPECTED[app]
        users = tomllib.loads(text)["users"]
        assert (users["table"], users["clerk_id"], users["columns"]) == (table, clerk_id, columns)
        assert (users["on_delete"], users.get("deleted")) == ("soft" if marks else "cascade", marks)
        parse_mapping(text)
    assert "harbor.identities.subject" in texts["harbor"]
    for value in ("clw0q", "01ARZ3", "tz4a98", "captain", "@salon.example", "Ab3dEf", "user_2"):
        assert value not in "".join(texts.values())


async def test_a_user_lives_with_each_unedited_suggestion(settings: Settings, db: asyncpg.Connection) -> None:
    """The user signs up, changes, and is deleted; so is a user with a phone only. Other rows stay as they are."""
    for app, text in (await suggest_all(db)).items():
        if app == "harbor":  # its table needs a column first
            continue
        mapping = parse_mapping(text)
        rows = f'select to_jsonb(t) from {mapping.schema}."{mapping.table}" as t'
        before = await db.fetch(rows)
        async with run_world(settings, db, mapping=mapping) as world:
            for user, fields in ((f"user_{app}1", make_email_fields(app)), (f"user_{app}2", {})):
                await live(world, user, fields)
            assert [row for row in await db.fetch(rows) if row in before] == before
            left = await db.fetchval(f'select count(*) from {mapping.schema}."{mapping.table}"') - len(before)
        assert left == (2 if EXPECTED[app][3] else 0)


async def live(world: World, user: str, fields: dict[str, Any]) -> None:
    """Deliver the events of a user; each of them must be applied."""
    names = {"first_name": None, "last_name": None}
    assert await world.deliver_ok(make_event("user.created", user, T1, **fields, **names)) == "applied"
    assert await world.deliver_ok(make_event("user.updated", user, T2, **fields)) == "applied"
    assert await world.deliver_ok(make_event("user.deleted", user, T3)) == "applied"


async def test_an_address_of_the_app_survives_a_soft_deletion(settings: Settings, db: asyncpg.Connection) -> None:
    """The address of the bills is written on insert only. The address of the login is unique, so it is released."""
    mapping = parse_mapping((await suggest_all(db))["canal"])
    async with run_world(settings, db, mapping=mapping) as world:
        await live(world, "user_canal1", make_email_fields("canal"))
    row = await db.fetchrow("select email, billing_email from canal.users where uid = 'user_canal1'")
    assert row
    assert row["email"] == "user_canal1@users.invalid"
    assert row["billing_email"].startswith("canal.")


async def test_a_required_name_is_empty_in_a_new_row_and_later_kept(settings: Settings, db: asyncpg.Connection) -> None:
    """Clerk has no name at the sign-up, then one, then none again."""
    mapping = parse_mapping((await suggest_all(db))["salon"])
    names = {"first_name": None, "last_name": None}
    async with run_world(settings, db, mapping=mapping) as world:
        for at, given, shown in (
            (T1, names, ""),
            (T2, {"first_name": "Ada", "last_name": None}, "Ada"),
            (T3, names, "Ada"),
        ):
            assert await world.deliver_ok(make_event("user.updated", "user_1", at, **given)) == "applied"
            row = await world.get_user("user_1")
            assert row
            assert row["displayName"] == shown
