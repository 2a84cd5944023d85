"""Browsers may call POST /sync from an authorized origin only."""

import pytest

from tests.clerk_stub import ClerkStub, make_bearer_header, make_session_token
from tests.conftest import Serve
from tests.problems import read_problem_code
from tests.sync_requests import build_settings, post_sync
from tests.world import World

PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


async def test_without_an_authorized_origin_cors_is_off(world: World, clerk: ClerkStub) -> None:
    clerk.add_user("user_1")
    origin = {"Origin": "https://app.example.com"}
    assert (await world.client.options("/sync", headers=origin | PREFLIGHT)).status_code == 405
    response = await post_sync(world, headers=origin)
    assert not any(name.startswith("access-control") for name in response.headers)


@pytest.mark.parametrize(
    "origin", ["chrome-extension://abcdefghijklmnop", "tauri://localhost", "capacitor://localhost"]
)
async def test_an_extension_or_a_web_view_may_call(serve: Serve, clerk: ClerkStub, origin: str) -> None:
    clerk.add_user("user_1")
    async with serve(**build_settings(clerk, clerk_authorized_parties=(origin,))) as world:
        response = await world.client.options("/sync", headers={"Origin": origin} | PREFLIGHT)
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, origin)
        token = make_bearer_header(make_session_token("user_1", azp=origin))
        response = await post_sync(world, headers=token | {"Origin": origin})
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, origin)


async def test_an_authorized_origin_may_call_from_a_browser(serve: Serve, clerk: ClerkStub) -> None:
    clerk.add_user("user_1")
    parties = ("https://app.example.com/", "com.example.native")
    async with serve(**build_settings(clerk, clerk_authorized_parties=parties)) as world:
        origin = {"Origin": "https://app.example.com"}
        response = await world.client.options("/sync", headers=origin | PREFLIGHT)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "access-control-allow-credentials" not in response.headers
        response = await post_sync(world, headers=origin)
        assert response.headers["access-control-allow-origin"] == "https://app.example.com"
        # A browser must be able to read an error response, too.
        response = await world.client.post("/sync", headers=origin)
        assert (response.status_code, read_problem_code(response)) == (401, "bad_token")
        assert response.headers["access-control-allow-origin"] == "https://app.example.com"
        for path, headers in (("/sync", {"Origin": "https://mallory.example"}), ("/webhooks/clerk", origin)):
            response = await world.client.options(path, headers=headers | PREFLIGHT)
            assert response.status_code >= 400
            assert "access-control-allow-origin" not in response.headers
        assert (await world.client.options("/sync")).status_code == 405
        assert (await world.client.get("/sync")).status_code == 405
