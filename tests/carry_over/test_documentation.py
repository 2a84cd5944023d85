"""The examples in sync_service/docs/carry-over.md, run unchanged against a running service."""

import asyncio
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from sync_service.mapping.toml import parse_mapping
from tests.carry_over.conftest import count_rows
from tests.clerk_stub import make_bearer_header, make_session_token
from tests.test_docs_examples import PACKAGES
from tests.world import World

PAGE = (Path(__file__).resolve().parents[2] / "sync_service" / "docs" / "carry-over.md").read_text()
EXAMPLES = {
    match[1]: match[2]
    for match in re.finditer(r"^```(?:js|python)\n(?://|#) (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
}

# The visitor answers, signs up, and loses the connection once; then the second call sends the same visit.
STORY = """
import { addRow, finishVisit } from "./visit.mjs";
import { carryOver } from "./actions.mjs";
const items = new Map();
globalThis.localStorage = {
  getItem: (name) => items.get(name) ?? null,
  setItem: (name, value) => items.set(name, value),
  removeItem: (name) => items.delete(name),
};
addRow("user_profiles", { first_name: "Ada", age: 36 });
addRow("interactions", { question: "q1", answer: "yes" });
addRow("interactions", { question: "q2", answer: "no" });
const found = [];
const lose = async (visit) => { await carryOver(visit); throw new Error("lost"); };
found.push(await finishVisit(lose).catch((error) => error.message));
found.push(await finishVisit(carryOver), await finishVisit(carryOver));
addRow("users", { clerk_id: "user_2" });
found.push(await finishVisit(carryOver).catch((error) => error.message));
console.log(JSON.stringify(found));
"""


def test_the_page_has_short_examples_and_a_valid_mapping() -> None:
    assert set(EXAMPLES) == {"app/welcome/actions.js", "lib/visit.js", "main.py"}
    for name, source in EXAMPLES.items():
        assert len(source.splitlines()) <= 16, name
    [toml] = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert [table.most for table in parse_mapping(toml).carry_over] == [1, 100]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
async def test_the_server_action_writes_the_visit_once_after_a_lost_response(
    world: World, db: asyncpg.Connection, tmp_path: Path
) -> None:
    folder = tmp_path / "node_modules" / "@clerk" / "nextjs"
    folder.mkdir(parents=True)
    (folder / "server.js").write_text(PACKAGES["@clerk/nextjs/server.js"])
    package = {"name": "@clerk/nextjs", "type": "module", "exports": {"./server": "./server.js"}}
    (folder / "package.json").write_text(json.dumps(package))
    (tmp_path / "actions.mjs").write_text(EXAMPLES["app/welcome/actions.js"])
    (tmp_path / "visit.mjs").write_text(EXAMPLES["lib/visit.js"])
    (tmp_path / "run.mjs").write_text(STORY)
    url = str(world.client.base_url).rstrip("/")
    environ = {**os.environ, "SYNC_URL": url, "TOKEN": make_session_token("user_1")}
    process = await asyncio.create_subprocess_exec(
        *("node", "run.mjs"), cwd=tmp_path, env=environ, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert json.loads(output) == ["lost", {"status": "completed", "reason": None}, None, "bad_request"]
    assert await count_rows(db) == [1, 2, 0, 1]


async def test_fastapi_sends_the_answers_that_the_backend_kept(
    world: World, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    fastapi: Any = pytest.importorskip("fastapi")
    monkeypatch.setenv("SYNC_URL", str(world.client.base_url))

    async def load_rows(visit: str) -> dict[str, Any]:
        return {"interactions": [{"question": visit, "answer": "yes"}]}

    names = ("Cookie", "FastAPI", "Header", "HTTPException")
    scope: dict[str, Any] = {"httpx": httpx, "os": os, **{name: getattr(fastapi, name) for name in names}}
    scope["load_rows"] = load_rows
    exec(EXAMPLES["main.py"], scope)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(scope["app"]), base_url="http://app") as client:
        client.cookies.set("visit", "visit-1")
        for _ in range(2):
            response = await client.post("/welcome", headers=make_bearer_header(make_session_token("user_1")))
            assert (response.status_code, response.json()) == (200, {"status": "completed", "reason": None})
        response = await client.post("/welcome", headers=make_bearer_header("x"))
        assert (response.status_code, response.json()) == (401, {"detail": "bad_token"})
    await scope["sync"].aclose()
    assert await count_rows(db) == [0, 1, 0, 1]
