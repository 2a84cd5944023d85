"""The onboarding product as a whole: from the first click of a visitor to the deleted account."""

import asyncio
from typing import Any

import asyncpg
import pytest

from sync_service.mapping.toml import parse_mapping
from tests.apps.shapes import FOLDER, ONBOARDING, Shape
from tests.carry_over.conftest import carry, read_result
from tests.clerk_stub import ClerkStub
from tests.conftest import Output, Serve
from tests.entities.conftest import make_session_event
from tests.sync_requests import build_settings
from tests.world import INSTANCE, T1, T2, T3, make_email_fields, make_event, wait_until

ANSWERS = {"goal": "VISITOR_SENTINEL", "finished_at": "2026-01-02T03:04:05Z"}
VISIT = {
    "id": "visit-7f3a",
    "rows": {
        "profile": [{"answers": ANSWERS}],
        "interactions": [
            {"kind": "click", "started_at": "2026-01-02T03:00:00Z", "ended_at": "2026-01-02T03:00:02Z"},
            {"kind": "answer", "started_at": "2026-01-02T03:00:05Z"},
        ],
    },
}
TABLES = ("users", "user_profiles", "user_interactions", "user_sessions")


@pytest.fixture
def shape() -> Shape:
    return ONBOARDING


async def read_rows(db: asyncpg.Connection, table: str) -> list[dict[str, Any]]:
    return [dict(row) for row in await db.fetch(f"select * from {table} order by id")]


async def test_a_visitor_becomes_a_user_and_leaves(
    serve: Serve, clerk: ClerkStub, db: asyncpg.Connection, output: Output
) -> None:
    mapping = parse_mapping((FOLDER / "onboarding" / "whole.toml").read_text())
    clerk.add_user("user_1", **make_email_fields("e"))
    async with serve(**build_settings(clerk, mapping=mapping, clerk_instance_id=INSTANCE)) as world:
        # The session starts before any other event, in an old form without its user, so it waits.
        started = make_session_event("session.created", "sess_1", "user_1", T1, user=None)
        assert await world.deliver_ok(started) == "parked"
        # Sign-up in two tabs: the answers are written once, and both tabs see the same result.
        tabs = await asyncio.gather(*(carry(world, {"carry_over": VISIT}) for _ in range(2)))
        assert [read_result(tab) for tab in tabs] == [("completed", None)] * 2
        [user] = await read_rows(db, "users")
        [profile] = await read_rows(db, "user_profiles")
        assert (profile["user_id"], profile["clerk_id"], profile["completed"]) == (user["id"], "user_1", True)
        assert [row["seconds"] for row in await read_rows(db, "user_interactions")] == [2, None]

        # The arrival of the user applies the session.
        await wait_until(lambda: db.fetchval("select count(*) = 1 from user_sessions"), 10)
        # The webhooks come late, and in the wrong order.
        assert await world.deliver_ok(make_event("user.updated", "user_1", T3, **make_email_fields("e"))) == "applied"
        assert await world.deliver_ok(make_event("user.created", "user_1", T2, **make_email_fields("e"))) == "stale"
        assert await world.deliver_ok(make_session_event("session.ended", "sess_1", "user_1", T3)) == "applied"
        [session] = await read_rows(db, "user_sessions")
        assert (session["user_id"], session["is_active"], session["browser"]) == (user["id"], False, "Firefox")
        assert session["ended_at"].timestamp() * 1000 == T3
        # The account is deleted: all rows go, and later events bring none of them back.
        assert await world.deliver_ok(make_event("user.deleted", "user_1")) == "applied"
        assert await world.deliver_ok(make_session_event("session.removed", "sess_1", "user_1", T3 + 1)) == "stale"
        assert (await carry(world, {"carry_over": VISIT | {"id": "visit-2"}})).status_code == 410
        assert [await read_rows(db, table) for table in TABLES] == [[], [], [], []]
        payloads = "select count(*) from clerk_sync.events where payload is not null"
        assert await db.fetchval(payloads) == 0
    assert "VISITOR_SENTINEL" not in output.said + output.read()
