"""Access to the operators' interface: the token, the cookie, and attempts without either."""

import time
from collections.abc import Iterator

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response

from sync_service.web.ops.auth import OpsAuthenticator
from sync_service.web.ops.routes import API_ROUTES
from sync_service.web.ops.sessions import COOKIE_NAME, SESSION_LIFETIME, SessionKeys
from tests.clerk_stub import make_bearer_header
from tests.ops.conftest import OPS_TOKEN, OpsWorld, ServeOps, check_headers
from tests.problems import read_problem_code
from tests.world import World, make_event

ROUTES = sorted(
    (
        route.operation.method,
        route.operation.path.replace("{id:path}", "msg_1").replace("{id}", "1").replace("{clerk_id}", "user_1"),
    )
    for route in API_ROUTES
)
OTHER_TOKEN = "SECRET_SENTINEL_of_another_operator"


def make_cookie(token: str = OPS_TOKEN, age: float = 0) -> dict[str, str]:
    """Return the headers of a browser that has logged in with the token."""
    keys = SessionKeys(token)
    session = keys.create(time.time() - age, b"0" * 16)
    return {"cookie": f"{COOKIE_NAME}={keys.sign(session)}", "x-csrf-token": keys.create_csrf_token(session)}


async def send(world: World, method: str, path: str, **headers: str) -> httpx2.Response:
    """Send a request with these headers, and no token."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await world.client.request(method, path, headers=named)
    check_headers(response)
    return response


async def test_each_route_needs_the_token(ops: OpsWorld) -> None:
    """A token in the URL is none, and a refused request changes nothing (G9)."""
    await ops.deliver_ok(make_event("user.created", "user_1"), "msg_1")
    before = await ops.db.fetch("select * from clerk_sync.events")
    for headers, query in (
        ({}, ""),
        ({}, f"?token={OPS_TOKEN}&access_token={OPS_TOKEN}"),
        ({"authorization": f"Basic {OPS_TOKEN}"}, ""),
        ({"authorization": OPS_TOKEN}, ""),
        ({"authorization": f"Bearer {OPS_TOKEN}, {OPS_TOKEN}"}, ""),
        ({"x-csrf-token": make_cookie()["x-csrf-token"]}, ""),
        (make_cookie(OTHER_TOKEN), ""),
        (make_cookie(age=SESSION_LIFETIME), ""),
    ):
        for method, path in ROUTES:
            response = await send(ops, method, path + query, **headers)
            assert (response.status_code, read_problem_code(response)) == (401, "bad_token"), (path, headers)
            assert response.headers["www-authenticate"] == "Bearer"
    assert (await send(ops, "GET", "/ops/events", **make_bearer_header(OTHER_TOKEN))).status_code == 401
    two = [("authorization", f"Bearer {OPS_TOKEN}")] * 2
    assert (await ops.client.get("/ops/events", headers=two)).status_code == 401
    assert await ops.db.fetch("select * from clerk_sync.events") == before
    assert await ops.read_audit() == []


async def test_without_a_token_in_the_settings_there_is_no_interface(world: World) -> None:
    for method, path in (*ROUTES, ("GET", "/ops"), ("POST", "/ops"), ("GET", "/ops/x")):
        response = await send(world, method, path, **make_bearer_header("None"))
        assert (response.status_code, read_problem_code(response)) == (404, "not_found")


async def test_the_cookie_of_one_process_is_valid_in_another_until_the_token_changes(serve_ops: ServeOps) -> None:
    headers = make_cookie()
    async with serve_ops() as first, serve_ops() as second:
        for ops in (first, second):
            assert (await send(ops, "GET", "/ops/summary", **headers)).status_code == 200
    async with serve_ops(sync_ops_token=OTHER_TOKEN) as changed:
        assert (await send(changed, "GET", "/ops/summary", **headers)).status_code == 401


async def test_a_write_with_the_cookie_needs_the_csrf_token_of_its_session(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1"), "msg_1")
    cookie = make_cookie()
    other = make_cookie(age=10)["x-csrf-token"]
    for token in ({}, {"x-csrf-token": ""}, {"x-csrf-token": other}):
        for path in (path for method, path in ROUTES if method == "POST"):
            headers = {"cookie": cookie["cookie"], "origin": "https://evil.example"} | token
            response = await send(ops, "POST", path, **headers)
            assert (response.status_code, read_problem_code(response)) == (403, "bad_csrf_token")
    assert await ops.read_audit() == []
    assert (await send(ops, "POST", "/ops/events/msg_1/replay", **cookie)).status_code == 200
    assert await ops.read_audit() == [("page", "replay", "msg_1")]
    # A proxy in front may have a login of its own.
    assert (await send(ops, "GET", "/ops/summary", authorization="Basic eDp5", **cookie)).status_code == 200


async def test_ten_wrong_tokens_lock_one_address_for_a_minute(ops: OpsWorld) -> None:
    """Neither the right token nor X-Forwarded-For changes that; a session and other routes go on."""
    await ops.deliver_ok(make_event("user.created", "user_1"))
    for number in range(10):
        headers = make_bearer_header(f"{OTHER_TOKEN}{number}") | {"x-forwarded-for": f"192.0.2.{number}"}
        assert (await send(ops, "GET", "/ops/events", **headers)).status_code == 401
        assert (await send(ops, "GET", "/ops/events")).status_code == 401  # without a token, nothing is guessed
    for token in (OTHER_TOKEN, OPS_TOKEN):
        for extra in ({}, {"x-forwarded-for": "192.0.2.99", "forwarded": "for=192.0.2.99", "x-real-ip": "192.0.2.99"}):
            response = await send(ops, "GET", "/ops/events", **(make_bearer_header(token) | extra))
            assert (response.status_code, read_problem_code(response)) == (429, "too_many_requests")
            assert 1 <= int(response.headers["retry-after"]) <= 60
    assert (await send(ops, "GET", "/ops/summary", **make_cookie())).status_code == 200
    assert (await send(ops, "GET", "/ops/summary")).status_code == 401
    assert await ops.deliver_ok(make_event("user.created", "user_2")) == "applied"
    assert (await ops.client.get("/healthz")).status_code == 200


def make_request(scheme: str = "http", address: str = "192.0.2.1", **headers: str) -> Request:
    """Return a request as Starlette passes it on."""
    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request(
        {"type": "http", "method": "GET", "scheme": scheme, "path": "/ops", "server": ("host", 80), "query_string": b""}
        | {"headers": encoded, "client": (address, 1)}
    )


@pytest.mark.parametrize(
    ("request_", "is_secure"),
    [
        (make_request(), False),
        (make_request("https"), True),
        (make_request(x_forwarded_proto="https"), True),
        (make_request(x_forwarded_proto="HTTPS, http"), True),
        (make_request(x_forwarded_proto="http, https"), False),
    ],
)
def test_the_cookie_is_for_this_site_and_not_for_scripts(request_: Request, is_secure: bool) -> None:
    authenticator = OpsAuthenticator(OPS_TOKEN)
    session = authenticator.log_in(request_, OPS_TOKEN)
    set_response, clear_response = Response(), Response()
    authenticator.set_cookie(request_, set_response, session)
    authenticator.clear_cookie(request_, clear_response)
    for response in (set_response, clear_response):
        attributes = set(response.headers["set-cookie"].lower().split("; "))
        assert {"httponly", "samesite=strict", "path=/ops"} <= attributes
        assert ("secure" in attributes) is is_secure
    value = set_response.headers["set-cookie"].partition(";")[0]
    assert authenticator.read_session(make_request(cookie=value)) == session
    assert "max-age=43200" in set_response.headers["set-cookie"].lower()


def iter_hostile_requests() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield a method, a path and headers that should confuse the service."""
    yield "GET", "/ops/events/..%2f..%2fmetrics", {}
    yield "GET", "/ops//events", {}
    yield "GET", "/ops/events?cursor=%0d%0aset-cookie:x=1", {}
    yield "GET", "/ops/users/user_1%0d%0aset-cookie:x=1", {}
    yield "POST", "/ops/events/msg_1/replay%0d%0aset-cookie:x=1", {}
    yield "GET", "/ops/events", {"x-original-url": "/ops/summary", "x-http-method-override": "POST"}
    yield "OPTIONS", "/ops/events", {"origin": "https://evil.example", "access-control-request-method": "POST"}
    yield "DELETE", "/ops/events/msg_1", {}
    yield "GET", "/ops/replay", {"x-http-method-override": "POST"}


async def test_hostile_requests_change_and_reveal_nothing(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1"), "msg_1")
    for method, path, headers in iter_hostile_requests():
        response = await ops.ops(method, path, headers=headers)
        assert response.status_code in {200, 400, 404, 405}, path
        assert "set-cookie" not in response.headers
        if response.status_code != 200:
            assert read_problem_code(response)
    event = await ops.get_event("msg_1")
    assert event
    assert event["attempts"] == 1
    assert await ops.read_audit() == []
