"""Operators see deliveries that have failed, and make them due again, by the interface and by the commands."""

import json
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import Serve
from tests.processes import run_here
from tests.world import make_event

OPS_TOKEN = "ops_token_0123456789012345678901234567890"
HEADERS = {"Authorization": f"Bearer {OPS_TOKEN}"}

DEAD = """
insert into clerk_sync.changes (type, clerk_id, delivery, attempts, reason)
values ('user.created', 'user_1', 'dead', 8, 'http_410'), ('user.updated', 'user_1', 'delivered', 1, null)
returning 'chg_' || transaction_id || '-' || id as id
"""


@pytest.fixture
async def ids(db: asyncpg.Connection) -> list[str]:
    return [row["id"] for row in await db.fetch(DEAD)]


async def test_the_interface_lists_and_repeats_deliveries(serve: Serve, db: asyncpg.Connection, ids: list[str]) -> None:
    async with serve(sync_ops_token=OPS_TOKEN) as world:
        get = world.client.get
        [failed] = (await get("/ops/changes", headers=HEADERS)).json()["changes"]
        assert (failed["id"], failed["status"], failed["reason"], failed["attempts"]) == (ids[0], "dead", "http_410", 8)
        page = (await get("/ops/changes?status=delivered&limit=1", headers=HEADERS)).json()
        assert [change["id"] for change in page["changes"]] == [ids[1]] == [page["next_cursor"]]
        assert (await get("/ops/changes?status=unknown", headers=HEADERS)).status_code == 400
        assert (await get("/ops/changes?cursor=x", headers=HEADERS)).status_code == 400
        assert (await get("/ops/summary", headers=HEADERS)).json()["failed_deliveries"] == 1
        for unknown in ("x", "chg_1-1"):
            response = await world.client.post(f"/ops/changes/{unknown}/replay", headers=HEADERS)
            assert (response.status_code, response.json()["code"]) == (404, "unknown_change")
        await world.deliver_ok(make_event("user.created", "user_1"))
        changes = (await get("/ops/users/user_1", headers=HEADERS)).json()["changes"]
        assert [change["id"] for change in changes] == ids[::-1]
        response = await world.client.post(f"/ops/changes/{ids[0]}/replay", headers=HEADERS)
        assert response.json() == {"outcome": "pending"}
        assert (await get("/ops/summary", headers=HEADERS)).json()["failed_deliveries"] == 0
    assert await db.fetchval("select attempts from clerk_sync.changes where delivery = 'pending'") == 0
    audit = await db.fetch("select who, action, subject from clerk_sync.audit")
    assert [tuple(row) for row in audit] == [("api", "replay_delivery", ids[0])]


def test_the_commands_list_and_repeat_deliveries(database: str, ids: list[str], tmp_path: Path) -> None:
    """An unknown ID is status 1; neither IDs nor a status is wrong usage."""
    environ = {"DATABASE_URL": database}
    listed = json.loads(run_here("changes", "list", "--json", cwd=tmp_path, **environ).stdout)
    assert [change["id"] for change in listed["changes"]] == ids[:1]
    assert run_here("changes", "replay", cwd=tmp_path, **environ).returncode == 2
    assert run_here("changes", "replay", "x", cwd=tmp_path, **environ).returncode == 1
    done = run_here("changes", "replay", "--status", "dead", cwd=tmp_path, **environ)
    assert (done.returncode, done.stdout) == (0, "due again: 1; the service sends them\n")
