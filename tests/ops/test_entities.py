"""Operators see sessions, organizations and memberships: previews, replays, the user's history, the page."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from sync_service.clerk.sample_events import build_sample_event
from sync_service.mapping.toml import parse_mapping
from tests.clerk_stub import ClerkStub
from tests.entities.conftest import SCHEMA, TOML, make_membership_event, make_organization_event, make_session_event
from tests.ops.conftest import OpsWorld, ServeOps, hold_retries
from tests.ops.pages import Browser
from tests.sync_requests import build_settings
from tests.world import INSTANCE, T0, T1, T2, make_event, wait_until

JOIN = """
select people.clerk_id, is_active, name, role
from people
join user_sessions on user_id = people.id
join team_members on person_id = people.id
join teams on teams.id = team_id
"""


@pytest.fixture
async def ops(serve_ops: ServeOps, db: asyncpg.Connection) -> AsyncIterator[OpsWorld]:
    """The service with a table for each entity."""
    await db.execute(SCHEMA)
    async with serve_ops(mapping=parse_mapping(TOML)) as world:
        yield world


async def test_a_preview_shows_the_row_of_the_object(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_session_event("session.created", "sess_1", "user_1", T1), "msg_begin")
    await ops.db.execute("alter table user_sessions add constraint refuses check (is_active)")
    assert await ops.deliver_ok(make_session_event("session.ended", "sess_1", "user_1", T2), "msg_end") == "parked"
    await hold_retries(ops.db)
    refused = await ops.replay("msg_end", dry_run="true")
    assert refused == {"outcome": "parked", "reason": "check_violation", "changes": {}, "row": "none"}
    await ops.db.execute("alter table user_sessions drop constraint refuses")
    preview = await ops.replay("msg_end", dry_run="true")
    assert (preview["outcome"], preview["row"]) == ("applied", "update")
    assert preview["changes"]["is_active"] == [True, False]
    assert set(preview["changes"]) == {"is_active", "ended_at"}
    assert await ops.replay("msg_end") == {"outcome": "applied", "reason": None}
    repeated = await ops.replay("msg_begin", dry_run="true")
    assert (repeated["outcome"], repeated["row"]) == ("stale", "none")


async def test_a_preview_shows_the_insert_and_the_deletion_of_a_child(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1"))
    created = make_membership_event("created", "orgmem_1", "org_1", "user_1")
    assert await ops.deliver_ok(created, "msg_created") == "parked"
    await hold_retries(ops.db)
    waiting = await ops.replay("msg_created", dry_run="true")
    assert (waiting["reason"], waiting["row"]) == ("waiting_for_organization", "none")
    bulk = await ops.act("/ops/replay", json={"status": "failed", "dry_run": True})
    assert bulk == {"dry_run": True, "outcomes": {"parked": 1}}
    await ops.db.execute("update clerk_sync.events set waiting_for = null")  # nothing wakes the event
    await ops.deliver_ok(make_organization_event("organization.created", "org_1"))
    preview = await ops.replay("msg_created", dry_run="true")
    assert (preview["row"], preview["changes"]["role"]) == ("insert", [None, "org:admin"])
    assert (await ops.act("/ops/replay", json={"status": "failed"}))["outcomes"] == {"applied": 1}
    await ops.db.execute("alter table documents add member bigint references team_members (id)")
    await ops.db.execute("insert into documents (member) select id from team_members")
    deleted = make_membership_event("deleted", "orgmem_1", "org_1", "user_1")
    assert await ops.deliver_ok(deleted, "msg_deleted") == "parked"
    await ops.db.execute("truncate documents")
    assert (await ops.replay("msg_deleted", dry_run="true"))["row"] == "delete"


async def test_the_user_s_history_has_the_events_of_sessions_and_memberships(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_session_event("session.created", "sess_1", "user_1", T1))
    await ops.deliver_ok(make_organization_event("organization.created", "org_1"))
    await ops.deliver_ok(make_membership_event("created", "orgmem_1", "org_1", "user_1"))
    history = await ops.read("/ops/users/user_1")
    assert {event["type"] for event in history["events"]} == {"session.created", "organizationMembership.created"}
    for other in ("sess_1", "org_1", "orgmem_1"):
        assert (await ops.ops("GET", f"/ops/users/{other}")).status_code == 404
        assert (await ops.ops("POST", f"/ops/users/{other}/restore")).status_code == 409


async def test_the_page_leads_from_an_object_to_its_events(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_session_event("session.created", "sess_1", "user_1", T1), "msg_1")
    browser = Browser(ops)
    page = await browser.log_in()
    found = await browser.submit(page, "Search", query="sess_1")
    assert (found.response.url.path, found.response.url.query) == ("/ops/page/events", b"clerk_id=sess_1")
    assert [row for row in found.rows if "session.created" in row]
    event = await browser.open("/ops/page/events/msg_1")
    assert "/ops/page/events?clerk_id=sess_1" in event.html
    assert "PII_SENTINEL" not in event.html
    assert "192.0.2.7" not in event.html
    await ops.deliver_ok(make_event("user.updated", "user_1", T2), "msg_2")
    assert "/ops/page/users/user_1" in (await browser.open("/ops/page/events/msg_2")).html


async def test_a_reconcile_counts_all_objects(serve_ops: ServeOps, clerk: ClerkStub, db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA)
    clerk.add_user("user_1")
    clerk.add_organization("org_1")
    clerk.add_membership("orgmem_1", "org_1", "user_1")
    async with serve_ops(mapping=parse_mapping(TOML), **build_settings(clerk)) as ops:
        await ops.act("/ops/reconcile", 202, json={})
        await wait_until(lambda: db.fetchval("select finished_at is not null from clerk_sync.reconciles"))
        [run] = (await ops.read("/ops/reconcile"))["runs"]
        assert (run["error"], run["users"], run["missing"], run["repaired"]) == (None, 1, 3, 3)


async def test_the_samples_of_one_user_fit_together(ops: OpsWorld) -> None:
    """They are those of `send`."""
    for number, event_type in enumerate(
        (
            *("session.created", "organization.created", "organizationMembership.created", "session.pending"),
            *("organization.updated", "organizationMembership.updated", "session.ended"),
            *("organizationMembership.deleted", "organization.deleted", "user.deleted"),
        )
    ):
        event = build_sample_event(event_type, "user_1", milliseconds=T0 + number)
        assert await ops.deliver_ok(event | {"instance_id": INSTANCE}) == "applied", event_type
        if event_type == "organizationMembership.created":
            row = await ops.db.fetchrow(JOIN)
            assert row
            assert [*row] == ["user_1", True, "Organization 1", "org:admin"]
        if event_type == "session.ended":
            assert await ops.db.fetchval("select is_active from user_sessions") is False
    assert await ops.db.fetchval("select count(*) from people") == 0
