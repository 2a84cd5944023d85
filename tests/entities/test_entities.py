"""Sessions, organizations and memberships through the webhook: their rows, their parents, their deletion."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from sync_service.clerk.events import make_deletion
from sync_service.mapping.toml import parse_mapping
from sync_service.postgres.pool import open_database
from sync_service.settings import Settings
from sync_service.store.access import Store
from sync_service.sync import children
from sync_service.sync.apply import Applier
from sync_service.sync.maintenance import MaintenanceWorker
from tests.entities.conftest import (
    SCHEMA,
    TOML,
    make_membership_event,
    make_organization_event,
    make_session_event,
    read_rows,
)
from tests.feed.receiver import run_receiver
from tests.world import T0, T1, T2, T3, World, make_event, make_message_id, run_world, wait_until


async def read_one(db: asyncpg.Connection, table: str) -> dict[str, Any]:
    [row] = await read_rows(db, table)
    return row


async def test_a_session_shows_its_activity_and_its_end(world: World) -> None:
    assert await world.deliver_ok(make_session_event("session.created", "sess_1", "user_1", T1)) == "applied"
    row = await read_one(world.db, "user_sessions")
    user = await world.get_user("user_1")
    assert user
    assert row["user_id"] == user["id"]
    assert (row["clerk_id"], str(row["ip_address"]), row["device_type"]) == ("user_1", "192.0.2.7", "desktop")
    assert (row["browser"], row["country"], row["city"]) == ("Firefox", "DE", "PII_SENTINEL City")
    assert (row["is_active"], row["ended_at"], row["impersonator"]) == (True, None, None)
    assert row["user_agent"] == "PII_SENTINEL Browser"
    await world.db.execute("update user_sessions set note = 'of the app'")
    assert await world.deliver_ok(make_session_event("session.ended", "sess_1", "user_1", T2)) == "applied"
    row = await read_one(world.db, "user_sessions")
    assert (row["is_active"], row["ended_at"].timestamp() * 1000, row["note"]) == (False, T2, "of the app")
    assert await world.deliver_ok(make_session_event("session.created", "sess_1", "user_1", T1)) == "stale"


async def test_of_two_states_of_one_millisecond_the_end_wins(world: World) -> None:
    for event_type in ("session.ended", "session.created", "session.pending"):
        await world.deliver_ok(make_session_event(event_type, "sess_1", "user_1", T1))
    assert (await read_one(world.db, "user_sessions"))["is_active"] is False
    for event_type in ("session.created", "session.removed"):
        await world.deliver_ok(make_session_event(event_type, "sess_2", "user_1", T1))
    assert [row["is_active"] for row in await read_rows(world.db, "user_sessions")] == [False, False]


async def test_times_of_a_session_are_in_order(world: World) -> None:
    """Clerk's own times differ by milliseconds, which the app's CHECK would refuse."""
    event = make_session_event("session.ended", "sess_1", "user_1", T0 - 1, last_active_at=T0 - 3)
    assert await world.deliver_ok(event) == "applied"
    row = await read_one(world.db, "user_sessions")
    assert row["created_at"] == row["last_active_at"] == row["ended_at"]


async def test_a_session_without_its_user_waits_for_it(world: World) -> None:
    message_id = make_message_id()
    event = make_session_event("session.created", "sess_1", "user_1", T1, user=None)
    response = await world.deliver(event, message_id)
    assert (response.status_code, response.json()) == (202, {"outcome": "parked", "reason": "waiting_for_user"})
    stored = await world.get_event(message_id)
    assert stored
    assert (stored["status"], stored["attempts"], stored["waiting_for"]) == ("failed", 0, "user_1")
    await world.deliver_ok(make_event("user.created", "user_1"))
    await wait_until(lambda: world.db.fetchval("select count(*) = 1 from user_sessions"), seconds=3)
    stored = await world.get_event(message_id)
    assert stored
    assert (stored["status"], stored["attempts"]) == ("applied", 1)


async def test_a_membership_waits_for_both_parents(world: World) -> None:
    assert await world.deliver_ok(make_membership_event("created", "orgmem_1", "org_1", "user_1")) == "parked"
    await world.deliver_ok(make_organization_event("organization.created", "org_1"))
    assert await world.db.fetchval("select count(*) from team_members") == 0
    await world.deliver_ok(make_event("user.created", "user_1"))
    await wait_until(lambda: world.db.fetchval("select count(*) = 1 from team_members"), seconds=6)
    row, team = await read_one(world.db, "team_members"), await read_one(world.db, "teams")
    assert (row["team_id"], row["role"]) == (team["id"], "org:admin")
    assert await world.deliver_ok(
        make_membership_event("updated", "orgmem_1", "org_1", "user_1", T1, role="org:member")
    )
    assert (await read_one(world.db, "team_members"))["role"] == "org:member"


async def test_the_deletion_of_an_organization_takes_its_memberships(world: World) -> None:
    await world.deliver_ok(make_organization_event("organization.created", "org_1"))
    await world.db.execute("insert into documents (team_id) select id from teams")
    for number in (1, 2):
        await world.deliver_ok(make_event("user.created", f"user_{number}"))
        await world.deliver_ok(make_membership_event("created", f"orgmem_{number}", "org_1", f"user_{number}"))
    assert await world.deliver_ok(make_organization_event("organization.deleted", "org_1")) == "applied"
    for table in ("teams", "team_members", "documents"):
        assert await read_rows(world.db, table) == []
    assert len(await world.get_users()) == 2
    late = make_membership_event("updated", "orgmem_1", "org_1", "user_1", T3)
    assert await world.deliver_ok(late) == "stale"
    message_id = make_message_id()
    new = make_membership_event("created", "orgmem_3", "org_1", "user_1", T3)
    assert await world.deliver_ok(new, message_id) == "stale"
    stored = await world.get_event(message_id)
    assert stored
    assert stored["payload"] is None
    types = [row["type"] for row in await world.db.fetch("select type from clerk_sync.changes order by id")]
    assert types == [
        "organization.created",
        *("user.created", "membership.created") * 2,
        *("membership.deleted",) * 2,
        "organization.deleted",
    ]


async def test_the_deletion_of_a_user_removes_all_their_data(world: World) -> None:
    await world.deliver_ok(make_organization_event("organization.created", "org_1"))
    await world.deliver_ok(make_session_event("session.created", "sess_1", "user_1", T1))
    await world.deliver_ok(make_session_event("session.ended", "sess_2", "user_1", T1))
    await world.deliver_ok(make_membership_event("created", "orgmem_1", "org_1", "user_1"))
    waiting = make_message_id()
    assert await world.deliver_ok(make_membership_event("created", "orgmem_2", "org_9", "user_1"), waiting) == "parked"
    assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
    for table in ("people", "user_sessions", "team_members"):
        assert await read_rows(world.db, table) == []
    assert await world.db.fetchval("select count(*) from clerk_sync.events where payload::text like '%PII%'") == 0
    stored = await world.get_event(waiting)
    assert stored
    assert (stored["status"], stored["payload"]) == ("stale", None)
    assert await world.deliver_ok(make_session_event("session.removed", "sess_2", "user_1", T3)) == "stale"


async def test_a_locked_user_delays_no_other_replayed_deletion(
    world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LOCK_TIMEOUT_MS", 100)
    users = ["user_1", "user_2", "user_3"]
    for user_id in users:
        await world.deliver_ok(make_event("user.created", user_id))
    assert settings.database
    async with contextlib.aclosing(await open_database(settings.database)) as pool, world.db.transaction():
        await world.db.execute("select from people where clerk_id = 'user_2' for update")
        deletions = [make_deletion("user", user_id, f"msg_{user_id}") for user_id in users]
        outcomes = await Applier(Store(pool, world.mapping)).apply_again(deletions)
        assert [outcome.outcome for outcome in outcomes] == ["applied", "parked", "applied"]


async def test_a_deleted_membership_is_final(world: World) -> None:
    await world.deliver_ok(make_organization_event("organization.created", "org_1"))
    await world.deliver_ok(make_event("user.created", "user_1"))
    assert await world.deliver_ok(make_membership_event("deleted", "orgmem_1", "org_1", "user_1")) == "applied"
    assert await world.deliver_ok(make_membership_event("created", "orgmem_1", "org_1", "user_1")) == "stale"
    assert await world.deliver_ok(make_membership_event("created", "orgmem_2", "org_1", "user_1")) == "applied"


async def test_payloads_have_no_private_data(world: World) -> None:
    await world.deliver_ok(make_organization_event("organization.created", "org_1"))
    user = make_event("user.created", "user_1")["data"] | {"private_metadata": {"k": "SECRET_SENTINEL"}}
    await world.deliver_ok(make_session_event("session.created", "sess_1", "user_1", T1, user=user))
    await world.deliver_ok(make_membership_event("created", "orgmem_1", "org_1", "user_1"))
    payloads = "".join(row["payload"] for row in await world.db.fetch("select payload::text from clerk_sync.events"))
    assert "SECRET_SENTINEL" not in payloads
    assert "Ada" not in payloads


@pytest.mark.parametrize("event_type", ["session.created", "session.pending", "session.removed", "session.revoked"])
async def test_each_event_of_a_session_saves_its_user(world: World, event_type: str) -> None:
    await world.deliver_ok(make_session_event(event_type, "sess_1", "user_1", T1))
    assert await world.get_user("user_1")


async def test_sessions_that_ended_long_ago_are_deleted(world: World, settings: Settings) -> None:
    """Without an end in the row, the end that Clerk announced counts. An active session stays."""
    long_ago = T0 - 100 * 86_400_000
    old = {"created_at": long_ago, "last_active_at": long_ago}
    await world.deliver_ok(make_session_event("session.ended", "sess_old", "user_1", long_ago, expire_at=T0, **old))
    await world.deliver_ok(
        make_session_event("session.created", "sess_lapsed", "user_1", long_ago, expire_at=long_ago + 1, **old)
    )
    await world.deliver_ok(make_session_event("session.created", "sess_long", "user_1", long_ago, expire_at=T3, **old))
    database = settings.database
    assert database
    await world.deliver_ok(make_session_event("session.ended", "sess_new", "user_1", T1))
    async with contextlib.aclosing(await open_database(database)) as pool:
        applier = Applier(Store(pool, world.mapping), source="replay")
        await MaintenanceWorker(applier, timedelta(days=30), asyncio.Event()).run_once()
    assert [row["session_id"] for row in await read_rows(world.db, "user_sessions")] == ["sess_long", "sess_new"]
    assert await world.deliver_ok(make_session_event("session.removed", "sess_old", "user_1", T3)) == "stale"


async def test_notifications_have_the_row_of_each_table(settings: Settings, db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA)
    mapping = parse_mapping(TOML).with_recording(notifies=True)
    async with (
        run_receiver() as receiver,
        run_world(replace(settings, mapping=mapping, **receiver.settings), db) as world,
    ):
        await world.deliver_ok(make_organization_event("organization.created", "org_1"))
        await world.deliver_ok(make_session_event("session.created", "sess_1", "user_1", T1))
        await world.deliver_ok(make_membership_event("created", "orgmem_1", "org_1", "user_1"))
        received = {message["type"]: message["data"] for message in await receiver.wait_for(4)}
        [member] = await read_rows(db, "team_members")
        assert received["membership.created"]["row"]["role"] == "org:admin"
        assert received["membership.created"]["key"] == member["id"]
        assert received["session.created"]["row"]["session_id"] == "sess_1"
        assert received["organization.created"]["row"]["name"] == "Acme"
        assert received["user.created"]["row"]["clerk_id"] == "user_1"
        await world.deliver_ok(make_organization_event("organization.deleted", "org_1"))
        deleted = {message["type"]: message["data"] for message in (await receiver.wait_for(6))[4:]}
        assert deleted["membership.deleted"]["row"] is None
        assert deleted["membership.deleted"]["key"] == member["id"]


@pytest.mark.parametrize("on_delete", ["soft", "anonymize"])
async def test_a_marked_organization_loses_its_memberships(
    settings: Settings, db: asyncpg.Connection, on_delete: str
) -> None:
    await db.execute(SCHEMA)
    await db.execute("alter table teams add deleted_at timestamptz")
    toml = TOML.replace(
        'organization_id = "clerk_org_id"',
        f'organization_id = "clerk_org_id"\non_delete = "{on_delete}"\ndeleted_at = "deleted_at"',
    ).replace('name = "name"', 'name = { from = "name", when_null = "-" }')
    async with run_world(replace(settings, mapping=parse_mapping(toml)), db) as world:
        await world.deliver_ok(make_organization_event("organization.created", "org_1"))
        await world.deliver_ok(make_event("user.created", "user_1"))
        await world.deliver_ok(make_membership_event("created", "orgmem_1", "org_1", "user_1"))
        assert await world.deliver_ok(make_organization_event("organization.deleted", "org_1")) == "applied"
        [team] = await read_rows(db, "teams")
        assert team["deleted_at"]
        assert await read_rows(db, "team_members") == []
        late = make_membership_event("created", "orgmem_2", "org_1", "user_1")
        assert await world.deliver_ok(late) == "stale"
