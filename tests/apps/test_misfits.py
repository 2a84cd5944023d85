"""With a mapping that does not fit its table, no webhook gets 2xx, and the log names the cause."""

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from sync_service.dsn import parse_dsn
from sync_service.mapping.toml import parse_mapping
from sync_service.settings import Settings
from tests.conftest import Output, Serve
from tests.world import T1, World, make_event, make_message_id, run_world

GOOD = "create table members (id serial primary key, clerk_id text unique, email text)"
ALL = "grant all on members to {role}; grant all on sequence members_id_seq to {role}"
TOML = """
[users]
table = "members"
clerk_id = "clerk_id"
[users.columns]
email = "primary_email"
"""


async def check_refused(world: World, output: Output, name: str, *words: str) -> None:
    """Check that the service is not ready, refuses every webhook, stores no event and logs the cause (J5)."""
    ready = await world.client.get("/readyz")
    assert (ready.status_code, ready.json()["reason"]) == (503, "mapping")
    for event_type in ("user.created", "user.updated", "user.deleted"):
        response = await world.deliver(make_event(event_type, "user_1"))
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert name not in response.text
    assert await world.db.fetchval("select count(*) from clerk_sync.events") == 0
    assert await world.db.fetchval("select count(*) from clerk_sync.identities") == 0
    errors = output.log("batch_not_stored")[0]["errors"]
    assert [error for error in errors if error.startswith(f"{name}: ")]
    for word in words:
        assert word in " ".join(errors)


@pytest.mark.parametrize(
    ("sql", "toml", "name", "words"),
    [
        ("", TOML, "public.members", "no such table"),
        (GOOD, TOML + 'first_name = "first_name"', "public.members.first_name", "no such column"),
        (GOOD, TOML + 'emali = "first_name"', "public.members.emali", "did you mean email?"),
        (GOOD, TOML.replace('"clerk_id"', '"clerkid"'), "public.members.clerkid", "did you mean clerk_id?"),
        (GOOD, TOML.replace('"clerk_id"', '"id"'), "public.members.id", "integer, which cannot hold a Clerk ID"),
        (GOOD.replace("text unique", "uuid unique"), TOML, "public.members.clerk_id", "uuid"),
        (GOOD.replace("text unique", "varchar(20) unique"), TOML, "public.members.clerk_id", "too short"),
        (GOOD.replace(" unique", ""), TOML, "public.members.clerk_id", "unique index"),
        (
            GOOD.replace(" unique", "") + "; create unique index on members (clerk_id) where email is not null",
            *(TOML, "public.members.clerk_id", "unique index"),
        ),
        (
            GOOD.replace(" unique", "") + "; create unique index on members (lower(clerk_id))",
            *(TOML, "public.members.clerk_id", "unique index"),
        ),
        (
            GOOD.replace(" unique", "") + "; create unique index on members (clerk_id, email)",
            *(TOML, "public.members.clerk_id", "unique index"),
        ),
        (GOOD.replace(" unique", " unique deferrable"), TOML, "public.members.clerk_id", "unique index"),
        (
            GOOD.replace("members", "real_members") + "; create view members as select * from real_members",
            *(TOML, "public.members", "name the table behind it"),
        ),
        (
            GOOD,
            TOML.replace("[users.columns]", 'on_delete = "soft"\ndeleted_at = "gone_at"\n[users.columns]'),
            *("public.members.gone_at", "no such column"),
        ),
        (
            GOOD,
            TOML.replace("[users.columns]", 'on_delete = "soft"\ndeleted_at = "email"\n[users.columns]').replace(
                'email = "primary_email"', ""
            ),
            *("public.members.email", "must be a time or a boolean"),
        ),
        (
            GOOD.replace("email text", "born date not null"),
            TOML.replace("[users.columns]", 'on_delete = "anonymize"\n[users.columns]').replace(
                'email = "primary_email"', 'born = "public_metadata.born"'
            ),
            *("public.members.born", "is anonymous"),
        ),
    ],
)
async def test_a_mapping_that_cannot_work_is_refused_by_name(
    serve: Serve, db: asyncpg.Connection, output: Output, sql: str, toml: str, name: str, words: str
) -> None:
    """The log names the table, column or index that does not fit the mapping (J5)."""
    if sql:
        await db.execute(sql)
    async with serve(mapping=parse_mapping(toml)) as world:
        await check_refused(world, output, name, words)


@pytest.fixture
async def role(db: asyncpg.Connection) -> AsyncIterator[str]:
    """A role with all privileges in the service's schema, and with those on the app's tables that the test grants."""
    name = "app_of_" + await db.fetchval("select current_database()")
    await db.execute(f"create role {name} login")
    await db.execute(
        f"grant usage on schema clerk_sync to {name}; grant all on all tables in schema clerk_sync to {name};"
        f" revoke all on schema public from public; grant usage on schema public to {name}"
    )
    yield name
    await db.execute(f"drop owned by {name}; drop role {name}")


@pytest.mark.parametrize(
    ("grants", "name", "words"),
    [
        ("grant select, insert, update on members to {role}", "public.members", "may not DELETE"),
        ("grant select on members to {role}", "public.members", "may not DELETE, INSERT, UPDATE"),
        (
            f"{ALL}; revoke usage on schema public from {{role}}",
            *("public", "may not use this schema"),
        ),
        ("grant all on members to {role}", "public.members_id_seq", "may not draw"),
        (
            f"{ALL}; alter table members enable row level security",
            *("public.members", "row-level security"),
        ),
    ],
)
async def test_a_role_without_the_needed_privileges_is_refused(
    settings: Settings, db: asyncpg.Connection, role: str, output: Output, grants: str, name: str, words: str
) -> None:
    """The role needs privileges on table, schema and the key's sequence, and row-level security must be off (J5)."""
    await db.execute(GOOD)
    await db.execute(grants.format(role=role))
    assert settings.database
    database = parse_dsn(settings.database.url.replace("//postgres@", f"//{role}@"))
    async with run_world(settings, db, mapping=parse_mapping(TOML), database=database) as world:
        await check_refused(world, output, name, words)


async def test_the_needed_privileges_are_sufficient(settings: Settings, db: asyncpg.Connection, role: str) -> None:
    """A soft deletion does not need the privilege DELETE."""
    await db.execute(GOOD + "; alter table members add deleted_at timestamptz")
    await db.execute(
        f"grant select, insert, update on members to {role}; grant usage on sequence members_id_seq to {role}"
    )
    mapping = replace(parse_mapping(TOML), on_delete="soft", deleted_at="deleted_at")
    assert settings.database
    database = parse_dsn(settings.database.url.replace("//postgres@", f"//{role}@"))
    async with run_world(settings, db, mapping=mapping, database=database) as world:
        assert (await world.client.get("/readyz")).status_code == 200
        assert await world.deliver_ok(make_event("user.created", "user_1", T1)) == "applied"
        assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
        await world.check_invariants()


async def test_after_a_repair_of_the_table_the_same_process_is_ready(
    serve: Serve, db: asyncpg.Connection, output: Output
) -> None:
    """No event was lost meanwhile, because the sender repeats all refused events."""
    await db.execute(GOOD.replace(" unique", ""))
    async with serve(mapping=parse_mapping(TOML)) as world:
        message_id = make_message_id()
        assert (await world.deliver(make_event("user.created", "user_1"), message_id)).status_code == 503
        await db.execute("create unique index members_clerk_id_key on members (clerk_id)")
        assert await world.deliver_ok(make_event("user.created", "user_1"), message_id) == "applied"
        assert (await world.client.get("/readyz")).status_code == 200
        await world.check_invariants()


async def test_columns_that_refuse_some_users_are_logged_before_the_first_event(
    serve: Serve, db: asyncpg.Connection, output: Output
) -> None:
    """An event that such a column refuses is parked with class and column, and applied after the repair (E8)."""
    await db.execute(GOOD.replace("email text", "email text not null, plan text not null"))
    async with serve(mapping=parse_mapping(TOML)) as world:
        assert (await world.client.get("/readyz")).status_code == 200
        told = [line["warning"] for line in output.log("mapping_warning")]
        assert any(why.startswith("public.members.plan: is NOT NULL, has no default") for why in told)
        assert any(why.startswith("public.members.email: is NOT NULL") for why in told)
        message_id = make_message_id()
        response = await world.deliver(make_event("user.created", "user_1"), message_id)
        assert (response.status_code, response.json()["reason"]) == (202, "not_null_violation")
        stored = await world.get_event(message_id)
        assert stored
        assert stored["status"] == "failed"
        assert '"column": "email"' in stored["failures"]
        await db.execute("alter table members alter email drop not null, alter plan set default 'x'")
        assert await world.deliver_ok(make_event("user.created", "user_1"), message_id) == "applied"
        await world.check_invariants()


async def test_a_preset_reports_unfilled_not_null_columns(serve: Serve, db: asyncpg.Connection, output: Output) -> None:
    """The preset has a placeholder for the email but none for a name."""
    await db.execute("create table users (id text primary key, email text not null, first_name text not null)")
    async with serve(mapping=parse_mapping('[users]\npreset = "text_id"')) as world:
        assert (await world.client.get("/readyz")).status_code == 200
        told = {line["warning"].partition(":")[0] for line in output.log("mapping_warning")}
        assert told == {"public.users.first_name"}
