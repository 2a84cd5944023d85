"""Clerk's own samples of each handled type, through the real route, with their rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.entities.conftest import make_organization_event, read_rows
from tests.world import World, make_event

SAMPLES = (
    *("spec-session.created", "spec-session.pending", "spec-session.ended", "spec-session.removed"),
    *("spec-session.revoked", "catalog-session.created-old_envelope"),
)


async def deliver(world: World, shared: Path, name: str) -> tuple[dict[str, Any], str]:
    """Deliver a sample as it is; return its data and the outcome."""
    body = (shared / "samples" / f"{name}.json").read_bytes()
    return json.loads(body)["data"], await world.deliver_ok(body)


@pytest.mark.parametrize("name", SAMPLES)
async def test_a_session(world: World, shared: Path, name: str) -> None:
    data = json.loads((shared / "samples" / f"{name}.json").read_bytes())["data"]
    user_id = data["user_id"]
    if "user" not in data:
        await world.deliver_ok(make_event("user.created", user_id))
    data, outcome = await deliver(world, shared, name)
    assert outcome == "applied"
    [row] = await read_rows(world.db, "user_sessions")
    [person] = await read_rows(world.db, "people")
    activity = data.get("latest_activity") or {}
    assert (row["session_id"], row["user_id"], row["clerk_id"]) == (data["id"], person["id"], user_id)
    assert (row["city"], row["country"]) == (activity.get("city"), activity.get("country"))
    assert row["is_active"] is (data["status"] == "active")
    assert (row["ended_at"] is None) is (data["status"] in {"active", "pending"})
    assert row["expires_at"].timestamp() * 1000 == data["expire_at"]


@pytest.mark.parametrize("source", ["spec", "catalog"])
async def test_an_organization(world: World, shared: Path, source: str) -> None:
    for event_type in ("created", "updated"):
        data, outcome = await deliver(world, shared, f"{source}-organization.{event_type}")
        assert outcome in {"applied", "stale"}
        [row] = await read_rows(world.db, "teams")
        assert row["clerk_org_id"] == data["id"]
        if outcome == "applied":
            assert (row["name"], row["slug"]) == (data["name"], data.get("slug"))
    _, outcome = await deliver(world, shared, f"{source}-organization.deleted")
    assert outcome == "applied"
    assert await read_rows(world.db, "teams") == []


@pytest.mark.parametrize("source", ["spec", "catalog"])
async def test_a_membership(world: World, shared: Path, source: str) -> None:
    data = json.loads((shared / "samples" / f"{source}-organizationMembership.created.json").read_bytes())["data"]
    organization = make_organization_event("organization.created", data["organization"]["id"])
    for parent in (organization, make_event("user.created", data["public_user_data"]["user_id"])):
        await world.deliver_ok(parent | {"instance_id": None})
    data, outcome = await deliver(world, shared, f"{source}-organizationMembership.created")
    assert outcome == "applied"
    [row] = await read_rows(world.db, "team_members")
    assert (row["clerk_membership_id"], row["role"]) == (data["id"], data["role"])
    body = {"data": data, "type": "organizationMembership.deleted"}
    assert await world.deliver_ok(body) == "applied"
    assert await read_rows(world.db, "team_members") == []
