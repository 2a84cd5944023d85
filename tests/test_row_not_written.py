"""The outcome describes the row: a row that the app's table does not keep is parked, and a missing row is written."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from sync_service.errors import ChangeRejected
from sync_service.mapping.table_binding import TableBinding
from sync_service.mapping.toml import parse_mapping
from sync_service.settings import Settings
from sync_service.store.access import BoundConnection
from sync_service.store.deletions import restore_user
from tests.clerk_stub import ClerkStub
from tests.conftest import Serve
from tests.sync_requests import build_settings, post_sync, post_sync_as_backend, read_outcome
from tests.test_unique_values import make_address
from tests.world import T1, T2, World, make_email_fields, make_event, make_message_id, run_world

pytestmark = pytest.mark.every_postgres

FUNCTION = "create function app_rule() returns trigger language plpgsql as $$ begin {body} end $$;"
SUPPRESSED = FUNCTION.format(body="if new.id = 'user_bad' then return null; end if; return new;")
MOVED = FUNCTION.format(body="if new.id = 'user_bad' then new.id := 'user_other'; end if; return new;")
ON_INSERT = "create trigger app_rule before insert on users for each row execute function app_rule()"
ON_UPDATE = "create trigger app_rule before update on users for each row execute function app_rule()"
ON_DELETE = "create trigger app_rule before delete on users for each row execute function app_rule()"
KEPT = FUNCTION.format(body="return null;")
REPAIR = "drop trigger app_rule on users"


@pytest.fixture
async def world(serve: Serve) -> AsyncIterator[World]:
    """The service without the check that a replay changes no row: here a replay repairs rows."""
    async with serve() as running:
        yield running


async def deliver(world: World, event_type: str, user_id: str, updated_at: int = T1, **data: object) -> tuple[int, str]:
    response = await world.deliver(make_event(event_type, user_id, updated_at, **data))
    body = response.json()
    return response.status_code, body.get("reason") or body["outcome"]


@pytest.mark.parametrize("trigger", [SUPPRESSED + ON_INSERT, MOVED + ON_INSERT], ids=["suppressed", "moved"])
async def test_a_row_that_a_trigger_does_not_insert_is_parked(world: World, trigger: str) -> None:
    """The event is parked without its version, so that the same message succeeds after the repair."""
    await world.db.execute(trigger)
    event, message_id = make_event("user.created", "user_bad"), make_message_id()
    response = await world.deliver(event, message_id)
    assert (response.status_code, response.json()) == (202, {"outcome": "parked", "reason": "row_not_written"})
    assert await world.get_users() == []
    assert await world.db.fetchval("select count(*) from clerk_sync.identities") == 0
    stored = await world.get_event(message_id)
    assert stored
    assert stored["status"] == "failed"
    assert '"table": "users"' in stored["failures"]
    assert await deliver(world, "user.created", "user_good") == (200, "applied")
    await world.db.execute(REPAIR)
    assert await world.deliver_ok(event, message_id) == "applied"
    assert await world.get_user("user_bad")


async def test_an_update_that_a_trigger_suppresses_is_parked(world: World) -> None:
    await deliver(world, "user.created", "user_bad", T1, first_name="Ada")
    await world.db.execute(SUPPRESSED + ON_UPDATE)
    assert await deliver(world, "user.updated", "user_bad", T2, first_name="Grace") == (202, "row_not_written")
    version = await world.db.fetchval("select version from clerk_sync.identities")
    assert version == T1
    await world.db.execute(REPAIR)


async def test_an_after_trigger_does_not_count(world: World) -> None:
    """The outcome follows from the statement; the app may delete the row afterwards."""
    await world.db.execute(FUNCTION.format(body="delete from users where id = new.id; return null;"))
    await world.db.execute("create trigger app_rule after insert on users for each row execute function app_rule()")
    assert await deliver(world, "user.created", "user_1") == (200, "applied")
    await world.db.execute(REPAIR)


async def test_in_a_batch_only_the_unwritten_row_is_parked(world: World) -> None:
    await world.db.execute(SUPPRESSED + ON_INSERT)
    ids = [*(f"user_{n}" for n in range(20)), "user_bad"]
    found = await asyncio.gather(*(deliver(world, "user.created", user_id) for user_id in ids))
    assert found == [*[(200, "applied")] * 20, (202, "row_not_written")]
    await world.db.execute(REPAIR)


TOML = """
[users]
table = "members"
clerk_id = "clerk_id"
{extra}
[users.columns]
email = "primary_email"
"""


@pytest.mark.parametrize("required", ["", ", tenant int not null"])
async def test_an_update_before_the_insert_is_checked_too(
    settings: Settings, db: asyncpg.Connection, required: str
) -> None:
    """A table with a required column that no mapping fills is updated by a statement of its own."""
    await db.execute(f"create table members (clerk_id text unique not null, email text{required})")
    columns, values = ("clerk_id, tenant", "'user_1', 1") if required else ("clerk_id", "'user_1'")
    await db.execute(f"insert into members ({columns}) values ({values})")
    async with run_world(settings, db, mapping=parse_mapping(TOML.format(extra=""))) as world:
        assert await deliver(world, "user.updated", "user_1", T1) == (200, "applied")
        await db.execute(FUNCTION.format(body="return null;"))
        await db.execute(ON_UPDATE.replace("users", "members"))
        email = make_email_fields("new")
        assert await deliver(world, "user.updated", "user_1", T2, **email) == (202, "row_not_written")


async def test_a_mapping_of_the_id_alone_writes_known_and_new_rows(settings: Settings, db: asyncpg.Connection) -> None:
    await db.execute("create table members (id serial, clerk_id text unique)")
    await db.execute("insert into members (clerk_id) values ('user_1')")
    mapping = parse_mapping('[users]\ntable = "members"\nclerk_id = "clerk_id"\n[users.columns]\n')
    async with run_world(settings, db, mapping=mapping) as world:
        assert await deliver(world, "user.updated", "user_1") == (200, "applied")
        assert await deliver(world, "user.created", "user_2") == (200, "applied")
        assert await db.fetchval("select count(*) from members") == 2


@pytest.mark.parametrize("extra", ["", 'on_delete = "soft"\ndeleted_at = "deleted_at"', 'on_delete = "anonymize"'])
async def test_a_deletion_that_a_trigger_cancels_is_parked(
    settings: Settings, db: asyncpg.Connection, extra: str
) -> None:
    await db.execute("create table members (clerk_id text unique not null, email text, deleted_at timestamptz)")
    async with run_world(settings, db, mapping=parse_mapping(TOML.format(extra=extra))) as world:
        await deliver(world, "user.created", "user_1")
        await db.execute(FUNCTION.format(body="return null;"))
        trigger = (ON_UPDATE if extra else ON_DELETE).replace("users", "members")
        await db.execute(trigger)
        event, message_id = make_event("user.deleted", "user_1"), make_message_id()
        response = await world.deliver(event, message_id)
        assert (response.status_code, response.json()["reason"]) == (202, "row_not_written")
        assert await deliver(world, "user.updated", "user_1", T2) == (200, "stale")
        await db.execute("drop trigger app_rule on members")
        assert await world.deliver_ok(event, message_id) == "applied"
        if not extra:
            assert await db.fetchval("select count(*) from members") == 0


async def test_two_deletions_of_one_row_at_the_same_time_both_succeed(world: World) -> None:
    """The second one waits for the first one's lock and finds no row to keep."""
    for turn in range(10):
        await deliver(world, "user.created", f"user_{turn}")
        found = await asyncio.gather(*(deliver(world, "user.deleted", f"user_{turn}") for _ in range(8)))
        assert set(found) == {(200, "applied")}


@pytest.mark.parametrize("again", ["redelivery", "other message", "replay of a failed event"])
async def test_a_missing_row_is_written_again_by_the_same_version(world: World, again: str) -> None:
    """The app's table was truncated or restored, and the service's schema was not."""
    event, message_id = make_event("user.created", "user_1", T1), make_message_id()
    assert await world.deliver_ok(event, message_id) == "applied"
    await world.db.execute("truncate users")
    if again == "redelivery":
        assert await world.deliver_ok(event, message_id) == "duplicate"
    elif again == "other message":
        assert await world.deliver_ok(event) == "applied"
    else:
        sql = "update clerk_sync.events set status = 'failed', finished_at = null, next_attempt_at = now() + '1 hour'"
        await world.db.execute(sql)
        assert await world.deliver_ok(event, message_id) == "applied"
    assert await world.get_user("user_1")


async def test_a_missing_row_is_not_written_by_an_older_version(world: World) -> None:
    await deliver(world, "user.updated", "user_1", T2)
    await world.db.execute("truncate users")
    assert await deliver(world, "user.updated", "user_1", T1) == (200, "stale")
    assert await world.get_user("user_1") is None
    assert await deliver(world, "user.updated", "user_1", T2) == (200, "applied")


async def test_a_redelivery_is_no_duplicate_while_the_missing_row_cannot_be_written(world: World) -> None:
    event, message_id = make_event("user.created", "user_bad", T1), make_message_id()
    assert await world.deliver_ok(event, message_id) == "applied"
    await world.db.execute("truncate users; update clerk_sync.events set payload = null")
    await world.db.execute(SUPPRESSED + ON_INSERT)
    response = await world.deliver(event, message_id)
    assert (response.status_code, response.json()["reason"]) == (202, "row_not_written")
    stored = await world.get_event(message_id)
    assert stored
    assert (stored["status"], stored["payload"] is not None) == ("failed", True)
    await world.db.execute(REPAIR)
    assert await world.deliver_ok(event, message_id) == "applied"


async def test_a_login_writes_the_missing_row_even_if_clerk_s_answer_is_older(serve: Serve, clerk: ClerkStub) -> None:
    """Clerk's API may lag behind the webhook; a row with its answer is better than none."""
    async with serve(**build_settings(clerk)) as world:
        await deliver(world, "user.updated", "user_1", T2)
        await world.db.execute("truncate users")
        clerk.add_user("user_1", T1)
        assert await read_outcome(post_sync(world)) == "created"
        assert await world.get_user("user_1")


async def test_a_profile_writes_the_missing_row_of_a_known_user(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**build_settings(clerk, clerk_secret_key=None)) as world:
        await deliver(world, "user.created", "user_1", T2)
        await world.db.execute("truncate users")
        assert await read_outcome(post_sync_as_backend(world, profile={"first_name": "Ada"})) == "unverified"
        assert await deliver(world, "user.created", "user_1", T2, first_name="Grace") == (200, "applied")
        row = await world.get_user("user_1")
        assert row
        assert row["first_name"] == "Grace"


@pytest.mark.parametrize("again", ["message", "replay", "login"])
async def test_a_row_with_older_content_is_written_again_by_the_same_version(
    serve: Serve, clerk: ClerkStub, again: str
) -> None:
    """The app's table came back from a backup, and the service's schema did not."""
    async with serve(**build_settings(clerk)) as world:
        clerk.add_user("user_1", T2, first_name="Grace")
        event = make_event("user.updated", "user_1", T2) | {"data": clerk.users["user_1"]}
        message_id = make_message_id()
        assert await world.deliver_ok(event, message_id) == "applied"
        if again == "login":  # else the version of Clerk's API is newer than that of the webhook
            assert await read_outcome(post_sync(world, query="?refresh=true")) == "current"
        await world.db.execute("update users set first_name = 'Ada', updated_at = null")
        if again == "message":
            assert await world.deliver_ok(event) == "applied"
        elif again == "login":
            assert await read_outcome(post_sync(world, query="?refresh=true")) == "updated"
        else:
            await world.db.execute(
                "update clerk_sync.events set status = 'failed', finished_at = null, next_attempt_at = now()"
            )
            assert await world.deliver_ok(event, message_id) == "applied"
        assert await world.db.fetchval("select first_name from users where updated_at is not null") == "Grace"
        # The row shows the content now, so it is not written once more.
        await world.db.execute(FUNCTION.format(body="raise exception 'written';") + ON_UPDATE)
        assert await world.deliver_ok(event) == "applied"
        await world.db.execute(REPAIR)


LINKING = "link_by_verified_email = true"


async def test_a_link_that_a_trigger_suppresses_is_parked(settings: Settings, db: asyncpg.Connection) -> None:
    """Without the error, the user would get a second row."""
    await db.execute("create table members (clerk_id text unique, email text)")
    await db.execute("insert into members (email) values ('ada@example.com')")
    await db.execute(FUNCTION.format(body="return null;") + ON_UPDATE.replace("users", "members"))
    async with run_world(settings, db, mapping=parse_mapping(TOML.format(extra=LINKING))) as world:
        event, message_id = (
            make_event("user.created", "user_1", **make_address("ada@example.com")),
            make_message_id(),
        )
        response = await world.deliver(event, message_id)
        assert (response.status_code, response.json()["reason"]) == (202, "row_not_written")
        await db.execute("drop trigger app_rule on members")
        assert await world.deliver_ok(event, message_id) == "applied"
    assert await db.fetchval("select array_agg(clerk_id) from members") == ["user_1"]


async def test_a_mark_that_a_trigger_suppresses_is_never_applied(settings: Settings, db: asyncpg.Connection) -> None:
    """While the deletion is deferred, it is parked anyway. A restore that keeps the mark is refused."""
    await db.execute("create table members (clerk_id text unique not null, email text, deleted_at timestamptz)")
    mapping = parse_mapping(TOML.format(extra='on_delete = "soft"\ndeleted_at = "deleted_at"\ndelete_grace = "7d"'))
    async with run_world(settings, db, mapping=mapping) as world:
        await deliver(world, "user.created", "user_1")
        trigger = ON_UPDATE.replace("users", "members")
        await db.execute(FUNCTION.format(body="return null;") + trigger)
        assert await deliver(world, "user.deleted", "user_1") == (202, "delete_grace")
        await db.execute("drop trigger app_rule on members")
        assert await deliver(world, "user.deleted", "user_1") == (202, "delete_grace")
        await db.execute(trigger)
        queries = await TableBinding(mapping).ensure_bound(db)
        with pytest.raises(ChangeRejected, match="row_not_written"):
            await restore_user(BoundConnection(db, queries), "user_1")
        await db.execute("drop trigger app_rule on members")
        assert await restore_user(BoundConnection(db, queries), "user_1")
    assert await db.fetchval("select deleted_at is null from members")
