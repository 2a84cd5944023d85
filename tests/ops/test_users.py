"""One user for operators: the state, the refresh, the cancelled deletion."""

import asyncpg

from sync_service.mapping.toml import parse_mapping
from sync_service.postgres.pool import open_database
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.store.user_history import find_users_by_email
from tests.clerk_stub import ClerkStub
from tests.ops.conftest import OpsWorld, ServeOps
from tests.problems import read_problem_code
from tests.world import T1, T2, make_email_fields, make_event, make_user_data

DEFERRED = 'preset = "text_id"\n[users]\ndelete_grace = "1d"\n'


async def test_a_user_is_shown_with_row_version_and_events(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1", T1), "msg_1")
    await ops.deliver_ok(make_event("user.updated", "user_1", T2), "msg_2")
    user = await ops.read("/ops/users/user_1")
    assert (user["clerk_id"], user["version"], user["deletion"], user["changes"]) == ("user_1", T2, None, [])
    assert user["row"] == await ops.get_user("user_1")
    assert user["identity"]["created_by"] == "webhook"
    assert [event["id"] for event in user["events"]] == ["msg_2", "msg_1"]
    assert "payload" not in user["events"][0]


async def test_a_deleted_user_is_shown_without_a_row(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1"))
    await ops.deliver_ok(make_event("user.deleted", "user_1"))
    user = await ops.read("/ops/users/user_1")
    assert (user["row"], user["version"], user["deletion"]["state"]) == (None, None, "completed")
    response = await ops.ops("POST", "/ops/users/user_1/restore")
    assert (response.status_code, read_problem_code(response)) == (409, "not_restorable")


async def test_a_deferred_deletion_is_shown_and_cancelled(serve_ops: ServeOps) -> None:
    """A second attempt finds no deletion (K5)."""
    async with serve_ops(mapping=parse_mapping(DEFERRED)) as ops:
        await ops.deliver_ok(make_event("user.created", "user_1"))
        await ops.deliver_ok(make_event("user.deleted", "user_1"))
        user = await ops.read("/ops/users/user_1")
        assert user["deletion"]["state"] == "deferred"
        assert user["deletion"]["due_at"] > user["deletion"]["deleted_at"]
        assert user["row"]
        assert await ops.act("/ops/users/user_1/restore") == {"clerk_id": "user_1", "restored": True}
        assert (await ops.read("/ops/users/user_1"))["deletion"] is None
        assert (await ops.ops("POST", "/ops/users/user_1/restore")).status_code == 409
        assert await ops.read_audit() == [("api", "restore", "user_1")]


async def test_a_deletion_that_the_table_refuses_is_shown_as_waiting(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1"))
    await ops.db.execute("create table orders (user_id text references users); insert into orders values ('user_1')")
    await ops.deliver_ok(make_event("user.deleted", "user_1"))
    assert (await ops.read("/ops/users/user_1"))["deletion"]["state"] == "waiting"


async def test_a_restore_and_its_audit_line_are_one_transaction(serve_ops: ServeOps) -> None:
    async with serve_ops(mapping=parse_mapping(DEFERRED)) as ops:
        await ops.deliver_ok(make_event("user.created", "user_1"))
        await ops.deliver_ok(make_event("user.deleted", "user_1"))
        await ops.db.execute("alter table clerk_sync.audit rename to gone")
        assert (await ops.ops("POST", "/ops/users/user_1/restore")).status_code == 503
        assert (await ops.read("/ops/users/user_1"))["deletion"]["state"] == "deferred"


async def test_an_unknown_user_is_404(ops_with_clerk: OpsWorld) -> None:
    ops = ops_with_clerk
    for clerk_id in ("user_unknown", "ada@example.com", "%00", "ä", "u" * 256):
        for method, path in (("GET", ""), ("POST", "/refresh")):
            response = await ops.ops(method, f"/ops/users/{clerk_id}{path}")
            assert (response.status_code, read_problem_code(response)) == (404, "unknown_user")
        assert (await ops.ops("POST", f"/ops/users/{clerk_id}/restore")).status_code in {404, 409}
    assert {subject for _, _, subject in await ops.read_audit()} == {"user_unknown", "(hidden)"}


async def test_a_refresh_writes_the_row_as_clerk_has_it(ops_with_clerk: OpsWorld, clerk: ClerkStub) -> None:
    ops = ops_with_clerk
    clerk.add_user("user_1", T1)
    created = await ops.act("/ops/users/user_1/refresh")
    assert created == {"outcome": "created", "user": await ops.get_user("user_1")}
    clerk.add_user("user_1", T2, first_name="New")
    assert (await ops.act("/ops/users/user_1/refresh"))["outcome"] == "updated"
    assert (await ops.act("/ops/users/user_1/refresh"))["outcome"] == "current"
    clerk.remove_user("user_1")
    await ops.deliver_ok(make_event("user.updated", "user_1", T1))  # pins the instance
    response = await ops.ops("POST", "/ops/users/user_1/refresh")
    assert (response.status_code, read_problem_code(response)) == (410, "deleted_user")
    assert await ops.get_user("user_1") is None
    assert await ops.read_audit() == [("api", "refresh", "user_1")] * 4


async def test_a_refresh_reports_its_obstacle(ops_with_clerk: OpsWorld, clerk: ClerkStub) -> None:
    ops = ops_with_clerk
    clerk.add_user("user_1")
    await ops.db.execute("alter table users add constraint refuses check (id = '') not valid")
    response = await ops.ops("POST", "/ops/users/user_1/refresh")
    assert (response.status_code, read_problem_code(response)) == (409, "row_refused")
    assert response.json()["reason"] == "check_violation"
    clerk.error_status = 500
    response = await ops.ops("POST", "/ops/users/user_2/refresh")
    assert (response.status_code, read_problem_code(response)) == (503, "clerk_unavailable")


async def test_a_refresh_without_a_key_names_the_setting(ops: OpsWorld) -> None:
    response = await ops.ops("POST", "/ops/users/user_1/refresh")
    assert (response.status_code, read_problem_code(response)) == (503, "clerk_unavailable")
    assert "CLERK_SECRET_KEY" in response.json()["detail"]


async def test_users_are_found_by_email(ops: OpsWorld, settings: Settings) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1", **make_email_fields("one")))
    email = make_user_data("user_1", T1, **make_email_fields("one"))["email_addresses"][0]["email_address"]
    await ops.db.execute("update users set email = lower(email)")
    assert settings.database
    database = await open_database(settings.database)
    store = Store(database, settings.mapping)
    async with database.acquire() as connection:
        for text, ids in ((email, ["user_1"]), (email.lower(), ["user_1"]), ("other@example.com", [])):
            assert await find_users_by_email(connection, store.binding.lookups, text) == ids
    await database.aclose()


async def test_users_are_found_by_email_through_its_index(db: asyncpg.Connection, settings: Settings) -> None:
    await db.execute("""
        insert into users (id, email, email_verified, banned, locked, public_metadata)
        select 'user_' || n, n || '@example.com', true, false, false, '{}' from generate_series(1, 20000) as n;
        analyze users
    """)
    lookups = Store(None, settings.mapping).binding.lookups  # type: ignore[arg-type]  # only its statements are used
    assert lookups.users_by_email
    plan = await db.fetch(f"explain {lookups.users_by_email}", "7@example.com", "7@example.com")
    assert not [line for (line,) in plan if "Seq Scan" in line]
