"""The examples in sync_service/docs/login.md, run unchanged against a running service."""

import asyncio
import functools
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clerk_stub import (
    API_TOKEN,
    ISSUER,
    SECRET_KEY,
    ClerkStub,
    export_public_key,
    make_bearer_header,
    make_session_token,
)
from tests.conftest import Serve
from tests.world import World

PAGE = (Path(__file__).resolve().parents[1] / "sync_service" / "docs" / "login.md").read_text()
EXAMPLES = {
    match[1]: match[2]
    for match in re.finditer(r"^```(?:js|python)\n(?://|#) (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
}

# Stubs of Clerk's and React's packages, with only the functions that the examples use.
PACKAGES = {
    "@clerk/nextjs/server.js": "export const auth = async () => ({ getToken: async () => process.env.TOKEN });",
    "@clerk/nextjs/index.js": "export const useAuth = () => ({"
    " isSignedIn: Boolean(process.env.TOKEN), getToken: async () => process.env.TOKEN });",
    "react/index.js": "export const useEffect = (effect) => { effect(); };",
}


@pytest.fixture
async def service(serve: Serve, clerk: ClerkStub, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    clerk.add_user("user_1")
    settings = {
        "clerk_secret_key": SECRET_KEY,
        "clerk_api_url": clerk.url,
        "clerk_jwt_key": export_public_key(),
        "clerk_issuer": ISSUER,
        "sync_api_token": API_TOKEN,
    }
    async with serve(**settings) as running:
        url = str(running.client.base_url).rstrip("/")
        monkeypatch.setenv("SYNC_URL", url)
        monkeypatch.setenv("NEXT_PUBLIC_SYNC_URL", url)
        yield running


async def run_node(folder: Path, example: str, then: str, token: str) -> str:
    """Run an example and the line `then` after it; return the output."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    for name, source in PACKAGES.items():
        file = folder / "node_modules" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    for name in ("@clerk/nextjs", "react"):
        exports = {".": "./index.js", "./server": "./server.js"}
        (folder / "node_modules" / name / "package.json").write_text(
            json.dumps({"name": name, "type": "module", "exports": exports})
        )
    (folder / "example.mjs").write_text(EXAMPLES[example])
    (folder / "run.mjs").write_text(f'import * as example from "./example.mjs";\n{then}\n')
    environ = {**os.environ, "TOKEN": token}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        program, "run.mjs", cwd=folder, env=environ, stdout=pipe, stderr=pipe
    )
    stdout, stderr = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, stderr.decode()
    return stdout.decode()


def test_the_page_has_the_four_short_examples() -> None:
    assert set(EXAMPLES) == {"lib/sync.js", "main.py", "sync.py", "useUserSync.js"}
    for name, source in EXAMPLES.items():
        assert len(source.splitlines()) <= 14, name


async def test_next_js_gets_the_row_or_the_error_code(service: World, tmp_path: Path) -> None:
    then = "console.log((await example.syncedUser()).id);"
    assert (await run_node(tmp_path, "lib/sync.js", then, make_session_token("user_1"))).strip() == "user_1"
    assert await service.get_user("user_1")
    then = "console.log(await example.syncedUser().catch((error) => error.message));"
    assert (await run_node(tmp_path, "lib/sync.js", then, "x")).strip() == "bad_token"


async def test_the_browser_hook_syncs_a_signed_in_user_only(service: World, tmp_path: Path) -> None:
    await run_node(tmp_path, "useUserSync.js", "example.useUserSync();", "")
    assert await service.get_user("user_1") is None
    await run_node(tmp_path, "useUserSync.js", "example.useUserSync();", make_session_token("user_1"))
    assert await service.get_user("user_1")


async def test_fastapi_gets_the_row_or_the_error_code(service: World) -> None:
    fastapi: Any = pytest.importorskip("fastapi")
    names = ("Depends", "FastAPI", "Header", "HTTPException")
    scope: dict[str, Any] = {"httpx": httpx, "os": os, **{name: getattr(fastapi, name) for name in names}}
    exec(EXAMPLES["main.py"], scope)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(scope["app"]), base_url="http://app") as client:
        response = await client.get("/me", headers=make_bearer_header(make_session_token("user_1")))
        assert (response.status_code, response.json()) == (200, {"id": "user_1"})
        response = await client.get("/me", headers=make_bearer_header("x"))
        assert (response.status_code, response.json()) == (401, {"detail": "bad_token"})
    await scope["sync"].aclose()


async def test_django_gets_the_row_or_the_error_code(service: World) -> None:
    http: Any = pytest.importorskip("django.http")
    configured: Any = pytest.importorskip("django.conf")
    factory: Any = pytest.importorskip("django.test").RequestFactory()
    if not configured.settings.configured:
        configured.settings.configure(ALLOWED_HOSTS=["*"])
    scope: dict[str, Any] = {"httpx": httpx, "os": os, "functools": functools, "JsonResponse": http.JsonResponse}
    exec(EXAMPLES["sync.py"], scope)
    view = scope["synced"](lambda request: http.JsonResponse({"id": request.synced_user["id"]}))
    request = factory.get("/me", headers=make_bearer_header(make_session_token("user_1")))
    response = await asyncio.to_thread(view, request)
    assert (response.status_code, json.loads(response.content)) == (200, {"id": "user_1"})
    response = await asyncio.to_thread(view, factory.get("/me"))
    assert (response.status_code, json.loads(response.content)) == (401, {"code": "bad_token"})
