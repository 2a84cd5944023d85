"""Access to the operators' page: its login, its cookie, its forms, and attempts to get around them."""

import re

import pytest

from tests.conftest import Serve
from tests.ops.conftest import OPS_TOKEN, OpsWorld
from tests.ops.pages import Browser
from tests.world import make_event

PAGES = [
    "/ops/page/events",
    "/ops/page/events/msg_1",
    "/ops/page/users/user_1",
    "/ops/page/reconcile",
    "/ops/page/audit",
    "/ops/docs/operations.md",
]

FORMS = [
    "/ops/page/search",
    "/ops/page/preview",
    "/ops/page/replay",
    "/ops/page/reconcile",
    "/ops/page/events/msg_1/personal",
    "/ops/page/users/user_1/personal",
    "/ops/page/users/user_1/refresh",
    "/ops/page/users/user_1/restore",
    "/ops/page/logout",
]


async def test_the_login_exchanges_the_token_for_a_cookie(ops: OpsWorld) -> None:
    browser = Browser(ops)
    login = await browser.open("/ops/")
    assert (login.status, login.has_password_field(), len(login.forms)) == (200, True, 1)
    wrong = await browser.log_in("wrong")
    assert (wrong.status, wrong.has_password_field(), browser.cookies) == (401, True, {})
    assert "wrong" in wrong.text
    page = await browser.log_in()
    assert (page.status, page.has_password_field()) == (200, False)
    assert [tag for tag, attributes in page.tags if attributes.get("type") == "search"] == ["input"]
    assert not (await browser.submit(page, "Log out")).find_form("Log in").fields["token"]
    assert browser.cookies == {}


@pytest.mark.parametrize(("proxy", "is_secure"), [({}, False), ({"x-forwarded-proto": "https"}, True)])
async def test_the_cookie_is_for_this_site_only(ops: OpsWorld, proxy: dict[str, str], is_secure: bool) -> None:
    response = await ops.client.post("/ops", data={"token": OPS_TOKEN, "next": "//evil.example"}, headers=proxy)
    assert (response.status_code, response.headers["location"]) == (303, "/ops")
    attributes = set(response.headers["set-cookie"].lower().split("; ")[1:])
    assert {"httponly", "path=/ops", "samesite=strict"} <= attributes
    assert ("secure" in attributes) == is_secure
    assert OPS_TOKEN not in response.headers["set-cookie"]


@pytest.mark.parametrize(
    "target", ["/ops/page/events", "/ops", "https://evil.example", "/ops/page/\r\nx: y", "/\\evil"]
)
async def test_a_login_returns_only_to_a_page_of_this_site(ops: OpsWorld, target: str) -> None:
    response = await ops.client.post("/ops", data={"token": OPS_TOKEN, "next": target})
    assert response.headers["location"] == (target if target == "/ops/page/events" else "/ops")


async def test_without_a_valid_cookie_each_page_is_the_login_and_no_form_acts(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1"), "msg_1")
    expired = Browser(ops, {"sync_service_ops": "1.AAAAAAAAAAAAAAAAAAAAAA." + "A" * 43})
    for browser in (Browser(ops), expired):
        for path in PAGES:
            page = await browser.open(f"{path}?token={OPS_TOKEN}")
            assert (page.status, page.has_password_field()) == (401, True)
            assert page.find_form("Log in").fields["next"] == path
        for path in FORMS:
            assert (await browser.open(path, "POST", data={"id": "msg_1"})).status == 401
    assert (await expired.open("/ops")).has_password_field()
    assert await ops.read_audit() == []
    await expired.log_in()
    assert (await expired.open(PAGES[1])).status == 200


async def test_a_form_of_another_site_or_session_is_403_and_has_no_effect(ops: OpsWorld) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1"), "msg_1")
    browser, other = Browser(ops), Browser(ops)
    await browser.log_in()
    token = (await other.log_in()).find_form("Search").fields["csrf_token"]
    for path in FORMS:
        for fields in ({}, {"csrf_token": ""}, {"csrf_token": token}):
            assert (await browser.open(path, "POST", data={"id": "msg_1", "query": "msg_1"} | fields)).status == 403
    assert await ops.read_audit() == []
    assert browser.cookies


async def test_failed_logins_are_limited(ops: OpsWorld) -> None:
    browser = Browser(ops)
    for _ in range(10):
        assert (await browser.log_in("wrong")).status == 401
    limited = await browser.log_in()
    assert (limited.status, limited.has_password_field()) == (429, True)
    assert 1 <= int(limited.response.headers["retry-after"]) <= 60
    assert (await ops.client.get("/healthz")).status_code == 200


async def test_a_body_that_is_no_form_is_refused(ops: OpsWorld) -> None:
    assert (await ops.client.post("/ops", content=b"\xff=1")).status_code == 400
    assert (await ops.client.post("/ops", content=b"&".join(b"a=%d" % n for n in range(99)))).status_code == 400
    assert (await ops.client.post("/ops", content=b"x" * 1024 * 1025)).status_code == 413
    assert (await ops.client.put("/ops")).status_code == 405


async def test_the_page_takes_the_bearer_token_too(ops: OpsWorld) -> None:
    response = await ops.client.get("/ops", headers={"authorization": f"Bearer {OPS_TOKEN}"})
    assert (response.status_code, "Problems" in response.text) == (200, True)
    response = await ops.client.get("/ops", headers={"authorization": "Bearer wrong"})
    assert (response.status_code, 'type="password"' in response.text) == (401, True)


async def test_the_cookie_ends_when_the_token_changes(ops: OpsWorld, serve: Serve) -> None:
    browser = Browser(ops)
    await browser.log_in()
    async with serve(sync_ops_token="another token of the operators") as world:
        page = await Browser(OpsWorld(world.client, world.db), browser.cookies).open("/ops/page/events")
        assert (page.status, page.has_password_field()) == (401, True)


async def test_without_the_setting_there_is_no_page(serve: Serve) -> None:
    async with serve() as world:
        for path in ("/ops", *PAGES):
            assert (await world.client.get(path)).status_code == 404
        for path in ("/ops", *FORMS):
            assert (await world.client.post(path)).status_code == 404


async def test_errors_are_pages_with_the_status_of_the_api(ops: OpsWorld) -> None:
    browser = Browser(ops)
    page = await browser.log_in()
    assert (await browser.open("/ops/page/events?status=open")).status == 400
    assert (await browser.open("/ops/page/events/msg_unknown")).status == 404
    assert (await browser.open("/ops/page/users/user_unknown")).status == 404
    for text in ("Preview", "Refresh from Clerk", "Start"):
        assert text not in page.text
    fields = page.find_form("Search").fields
    for path, status in {"preview": 400, "replay": 400, "reconcile": 503, "users/user_1/restore": 409}.items():
        error = await browser.open(f"/ops/page/{path}", "POST", data=fields)
        assert error.status == status
        assert re.search(r"role=\"alert\"", error.html)
    assert "CLERK_SECRET_KEY" in (await browser.open("/ops/page/reconcile", "POST", data=fields)).text
