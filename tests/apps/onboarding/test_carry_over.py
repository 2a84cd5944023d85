"""A visitor's answers, clicks and results belong to the user after sign-up, and go with the account."""

from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from sync_service.mapping.toml import parse_mapping
from tests.apps.shapes import FOLDER, ONBOARDING, Shape
from tests.carry_over.conftest import carry, make_body, read_result
from tests.clerk_stub import ClerkStub
from tests.conftest import Serve
from tests.sync_requests import build_settings
from tests.world import PATIENT_LIMITS, T1, T2, make_email_fields, make_event

SECTIONS = """
[carry_over.profile]
table = "user_profiles"
user = "user_id"
clerk_id = "clerk_id"
columns = ["answers"]
most = 1
[carry_over.clicks]
table = "user_interactions"
user = "user_id"
clerk_id = "clerk_id"
columns = ["kind", "started_at", "ended_at"]
[carry_over.results]
table = "user_results"
user = "user_id"
clerk_id = "clerk_id"
columns = ["score"]
"""

VISIT: dict[str, Any] = {
    "profile": [{"answers": {"goal": "run", "finished_at": "2026-01-31T12:00:00Z"}}],
    "clicks": [
        {"kind": "view", "started_at": "2026-01-31T11:59:00Z", "ended_at": "2026-01-31T11:59:30Z"},
        {"kind": "answer", "started_at": "2026-01-31T11:59:30Z"},
    ],
    "results": [{"score": 72.5}],
}

ROWS = """
select p.completed, array_agg(i.seconds order by i.id), min(r.score)::text, bool_and(r.passed),
    bool_and(u.clerk_id in (p.clerk_id, i.clerk_id, r.clerk_id)) as is_owned
from users as u
join user_profiles as p on p.user_id = u.id
join user_interactions as i on i.user_id = u.id
join user_results as r on r.user_id = u.id
group by u.id, p.id
"""


@pytest.fixture
def shape() -> Shape:
    return ONBOARDING


async def test_a_visit_becomes_the_users_and_is_deleted_with_the_account(
    serve: Serve, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """Serial keys, CHECKs and generated columns are the app's; the webhook comes after the first login."""
    mapping = parse_mapping((FOLDER / "onboarding" / "sync.toml").read_text() + SECTIONS)
    clerk.add_user("user_1", **make_email_fields("ada"))
    limits = replace(PATIENT_LIMITS, stale_wait=4)
    async with serve(**build_settings(clerk, mapping=mapping), limits=limits) as world:
        backwards = {"kind": "view", "started_at": "2026-01-31T12:00:00Z", "ended_at": "2026-01-31T11:00:00Z"}
        refused = await carry(world, make_body("visit-0", profile=VISIT["profile"], clicks=[backwards]))
        assert read_result(refused) == ("failed", "check_violation")
        assert await db.fetch(ROWS) == []
        responses = [await carry(world, make_body(**VISIT)) for _ in range(2)]
        assert [read_result(response) for response in responses] == [("completed", None)] * 2
        expected = [(True, [30.0, None], "72.50", True, True)]
        assert [tuple(row) for row in await db.fetch(ROWS)] == expected
        assert await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("ada"))) in {
            "applied",
            "stale",
        }
        assert [tuple(row) for row in await db.fetch(ROWS)] == expected
        assert await world.deliver_ok(make_event("user.deleted", "user_1", T2)) == "applied"
        for table in ("users", "user_profiles", "user_interactions", "user_results"):
            assert await db.fetchval(f"select count(*) from {table}") == 0, table
