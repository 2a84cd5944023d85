"""The clients and handlers in sync_service/docs/changes.md, run unchanged."""

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.conftest import Serve
from tests.feed.receiver import NOTIFY_SECRET
from tests.feed.test_feed import RECORDING, TOKEN
from tests.tools import require_tool
from tests.world import T1, make_event

PAGE = (Path(__file__).resolve().parents[2] / "sync_service" / "docs" / "changes.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
[JAVASCRIPT] = re.findall(r"^```javascript\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


class EnoughError(Exception):
    """Ends the client, which follows the feed for ever."""


async def test_the_client_in_python_follows_the_feed(serve: Serve) -> None:
    names: dict[str, Any] = {}
    exec(PYTHON[0], names)
    found: list[str] = []

    def handle(change: dict[str, Any]) -> None:
        found.append(change["clerk_id"])
        if len(found) == 3:
            raise EnoughError

    async with serve(**RECORDING) as world:
        for number in range(2):
            await world.deliver_ok(make_event("user.created", f"user_{number}", T1))
        following = asyncio.create_task(
            asyncio.to_thread(names["follow"], str(world.client.base_url), TOKEN, "", handle)
        )
        await world.deliver_ok(make_event("user.created", "user_2", T1))
        with pytest.raises(EnoughError):
            await following
    assert found == ["user_0", "user_1", "user_2"]


async def test_the_client_in_javascript_follows_the_feed(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "client.mjs").write_text(JAVASCRIPT)
    (tmp_path / "main.mjs").write_text(
        'import { follow } from "./client.mjs";\n'
        "const [url, token] = process.argv.slice(2); let found = [];\n"
        'await follow(url, token, "", async (change) => {\n'
        "  found.push(change.clerk_id);\n"
        "  if (found.length === 2) { console.log(JSON.stringify(found)); process.exit(0); }\n"
        "});\n"
    )
    async with serve(**RECORDING) as world:
        await world.deliver_ok(make_event("user.created", "user_0", T1))
        process = await asyncio.create_subprocess_exec(
            *(require_tool("node"), str(tmp_path / "main.mjs"), str(world.client.base_url).rstrip("/"), TOKEN),
            stdout=asyncio.subprocess.PIPE,
        )
        await world.deliver_ok(make_event("user.created", "user_1", T1))
        output, _ = await process.communicate()
    assert json.loads(output) == ["user_0", "user_1"]


def test_the_handler_accepts_a_notification_once_and_refuses_a_forged_one() -> None:
    """The handler of the page verifies the signature and does the work of each change one time."""
    names: dict[str, Any] = {}
    exec(PYTHON[1], names)
    done: list[tuple[str, str]] = []
    known: set[str] = set()
    handler = names["make_handler"](
        NOTIFY_SECRET, known, {"user.created": lambda data: done.append(("welcome", data["row"]["email"]))}
    )
    body = json.dumps({"id": "chg_1-1", "type": "user.created", "data": {"row": {"email": "ada@example.com"}}})
    headers = sign(body)
    assert handler(headers, body) == handler(headers, body) == 204
    assert done == [("welcome", "ada@example.com")]
    assert handler(headers, body + " ") == 400


def sign(body: str) -> dict[str, str]:
    """Return the headers of a notification."""
    now = datetime.now(UTC)
    signature = Webhook(NOTIFY_SECRET).sign("chg_1-1", now, body)
    return {
        "webhook-id": "chg_1-1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
