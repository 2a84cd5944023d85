"""The operators' page: the way from a failed event to its remedy, without JavaScript."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sync_service
from sync_service.mapping.toml import parse_mapping
from sync_service.store.remedies import REMEDIES
from tests.clerk_stub import ClerkStub
from tests.ops.conftest import FAILED_DELIVERY, OpsWorld, ServeOps, hold_retries
from tests.ops.pages import Browser
from tests.world import (
    PATIENT_LIMITS,
    PII_SENTINEL,
    T1,
    T2,
    make_email_fields,
    make_event,
    make_message_id,
    make_user_data,
)

PACKAGE = Path(sync_service.__file__).parent
MAX_LINES = 1000

# Text that would be markup if a page did not escape it.
MARKUP = "<script>alert(1)</script>"


@pytest.fixture
async def browser(ops: OpsWorld) -> Browser:
    """A browser that is logged in."""
    browser = Browser(ops)
    await browser.log_in()
    return browser


async def park_by_check(ops: OpsWorld, count: int = 2) -> list[str]:
    """Park updates that a CHECK of the table refuses, then drop the CHECK."""
    await ops.db.execute("alter table users add constraint short_name check (length(first_name) < 30)")
    ids = []
    for number in range(count):
        await ops.deliver_ok(make_event("user.created", f"user_{number}", T1, first_name="Ada"))
        ids.append(make_message_id())
        update = make_event("user.updated", f"user_{number}", T2, first_name="Augusta" * 5, **make_email_fields("new"))
        assert await ops.deliver_ok(update, ids[-1]) == "parked"
    await hold_retries(ops.db)
    return ids


async def test_the_overview_shows_each_group_with_its_remedy_and_the_health(ops: OpsWorld) -> None:
    await park_by_check(ops)
    page = await Browser(ops).log_in()
    [group] = re.findall(r"<article.*?</article>", page.html, re.DOTALL)
    for text in ("2 failed", "check_violation", "users", "short_name", "Change the constraint", "#check-violation"):
        assert text in group
    assert page.text.index("Problems") < page.text.index("Health")
    for text in ("Backlog 2", "Lag", "Silence", "Missed webhooks 0", "Drift", "Failed deliveries 0"):
        assert text in page.text
    assert [attributes for tag, attributes in page.tags if tag == "svg"]


async def test_the_preview_of_a_group_shows_the_change_that_its_replay_makes(ops: OpsWorld, browser: Browser) -> None:
    await park_by_check(ops)
    refused = await browser.submit(await browser.open("/ops"), "Preview")
    assert ["parked", "2"] in refused.rows
    assert "short_name" in refused.text
    await ops.db.execute("alter table users drop constraint short_name")
    preview = await browser.submit(await browser.open("/ops"), "Preview")
    assert ["applied", "2"] in preview.rows
    assert ["first_name", '"Ada"', f'"{"Augusta" * 5}"'] in preview.rows
    assert (await ops.get_user("user_0") or {})["first_name"] == "Ada"
    result = await browser.submit(preview, "Replay")
    assert ["applied", "2"] in result.rows
    assert (await ops.get_user("user_0") or {})["first_name"] == "Augusta" * 5
    assert "No event is failed or dead" in (await browser.open("/ops")).text
    subject = "status=failed type=user.updated reason=check_violation table=users constraint=short_name"
    assert [("page", "replay", subject), ("page", "preview", subject)] == (await ops.read_audit())[:2]


async def test_one_event_is_previewed_and_replayed(ops: OpsWorld, browser: Browser) -> None:
    [message_id] = await park_by_check(ops, 1)
    page = await browser.open(f"/ops/page/events/{message_id}")
    assert [row[1:5] for row in page.rows[1:]] == [["check_violation", "users", "\u2013", "short_name"]]
    assert ["parked", "1"] in (await browser.submit(await browser.submit(page, "Preview"), "Replay")).rows
    await ops.db.execute("alter table users drop constraint short_name")
    preview = await browser.submit(page, "Preview")
    assert any(row[0] == "first_name" for row in preview.rows)
    assert ["applied", "1"] in (await browser.submit(preview, "Replay")).rows
    assert (await browser.submit(page, "Preview")).text.count("The row stays as it is.") == 1


async def test_a_filter_is_previewed_and_replayed_and_without_one_there_is_no_button(
    ops: OpsWorld, browser: Browser
) -> None:
    await park_by_check(ops)
    await ops.db.execute("alter table users drop constraint short_name")
    everything = await browser.open("/ops/page/events?status=&type=")
    assert "Preview" not in [form.button for form in everything.forms]
    assert (await browser.submit(everything, "Log out")).has_password_field()
    await browser.log_in()
    page = await browser.open("/ops/page/events?status=failed&clerk_id=user_1&since=2026-01-01T00:00:00Z")
    result = await browser.submit(await browser.submit(page, "Preview"), "Replay")
    assert ["applied", "1"] in result.rows
    assert (await ops.read("/ops/summary"))["backlog"] == 1


async def test_the_overview_lists_failed_deliveries_and_sends_one_again(ops: OpsWorld, browser: Browser) -> None:
    """The button makes it due again; without the CSRF token nothing happens."""
    await ops.db.execute(FAILED_DELIVERY)
    page = await browser.open("/ops")
    assert [row[1:5] for row in page.rows[1:]] == [["user.created", "user_1", "dead", "http_410, 8 attempts"]]
    action = page.find_form("Send again").action
    assert (await browser.open(action, "POST", data={})).status == 403
    page = await browser.submit(await browser.open("/ops"), "Send again")
    assert page.rows == []
    due = "select 'chg_' || transaction_id || '-' || id from clerk_sync.changes where delivery = 'pending'"
    assert await ops.read_audit() == [("page", "replay_delivery", await ops.db.fetchval(due))]


async def test_the_list_of_events_has_each_of_them_on_one_page(ops: OpsWorld, browser: Browser) -> None:
    await ops.db.execute("""
        insert into clerk_sync.events (id, type, status, received_at, finished_at)
        select 'msg_' || n, 'user.updated', 'applied', now() - n * interval '1 s', now() from generate_series(1, 120) n
    """)
    found: list[str] = []
    path = "/ops/page/events?type=user.updated"
    while path:
        page = await browser.open(path)
        found += [row[-1] for row in page.rows[1:]]
        older = [a["href"] for tag, a in page.tags if tag == "a" and "cursor=" in a["href"]]
        path = older[0] if older else ""
    assert found == [f"msg_{number}" for number in range(1, 121)]


async def test_personal_fields_are_hidden_until_the_request_which_is_recorded(ops: OpsWorld, browser: Browser) -> None:
    message_id = make_message_id()
    await ops.deliver_ok(make_event("user.created", "user_1", **make_email_fields("ada")), message_id)
    for kind, subject in (("events", message_id), ("users", "user_1")):
        page = await browser.open(f"/ops/page/{kind}/{subject}")
        assert PII_SENTINEL not in page.html
        assert f"ada.{PII_SENTINEL}@example.com" in (await browser.submit(page, "Show personal fields")).text
        assert (await ops.read_audit())[0] == ("page", "show_personal_fields", subject)


async def test_search_finds_users_and_events_and_puts_no_email_into_a_url(
    ops: OpsWorld, browser: Browser, output: Any
) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1", **make_email_fields("ada")), "msg_1")
    page = await browser.open("/ops")
    email = f"ada.{PII_SENTINEL}@example.com"
    for text, path in (
        (email, "users/user_1"),
        (email.upper(), ""),
        ("user_1", "users/user_1"),
        ("msg_1", "events/msg_1"),
    ):
        found = await browser.submit(page, "Search", query=f" {text} ")
        assert found.status == (200 if path else 404)
        assert found.response.url.path == f"/ops/page/{path or 'search'}"
        assert not found.response.url.query
        assert PII_SENTINEL.lower() not in found.html.lower()
    for text in ("user_2", "ñ", "<b>"):
        assert (await browser.submit(page, "Search", query=text)).status == 404
    assert (await browser.submit(page, "Search", query=" ")).status == 400


async def test_a_user_is_refreshed(ops_with_clerk: OpsWorld, clerk: ClerkStub) -> None:
    browser = Browser(ops_with_clerk)
    await browser.log_in()
    clerk.users["user_1"] = make_user_data("user_1", T2, first_name="Grace")
    await ops_with_clerk.deliver_ok(make_event("user.created", "user_1", T1), "msg_1")
    page = await browser.submit(await browser.open("/ops/page/users/user_1"), "Refresh from Clerk")
    assert "Outcome: updated." in page.text
    assert (await ops_with_clerk.get_user("user_1") or {})["first_name"] == "Grace"
    assert "msg_1" in page.text


async def test_a_refused_refresh_shows_the_reason_and_its_remedy(ops_with_clerk: OpsWorld, clerk: ClerkStub) -> None:
    browser = Browser(ops_with_clerk)
    await browser.log_in()
    await ops_with_clerk.deliver_ok(make_event("user.created", "user_1", T1), "msg_1")
    clerk.users["user_1"] = make_user_data("user_1", T2)
    await ops_with_clerk.db.execute("alter table users add constraint refuses check (id = '') not valid")
    page = await browser.submit(await browser.open("/ops/page/users/user_1"), "Refresh from Clerk")
    assert page.status == 409
    assert "check_violation" in page.text
    assert "Runbook: Check violation" in page.text


async def test_a_deferred_deletion_is_cancelled(serve_ops: ServeOps) -> None:
    async with serve_ops(mapping=parse_mapping('preset = "text_id"\n[users]\ndelete_grace = "1d"\n')) as ops:
        await ops.deliver_ok(make_event("user.created", "user_1"))
        await ops.deliver_ok(make_event("user.deleted", "user_1"))
        browser = Browser(ops)
        overview = await browser.log_in()
        assert "1 failed: delete_grace" in overview.text
        page = await browser.open("/ops/page/users/user_1")
        assert "Deletion deferred" in page.text
        page = await browser.submit(page, "Restore")
        assert "The deletion is cancelled." in page.text
        assert "Restore" not in [form.button for form in page.forms]


async def test_a_replay_that_takes_too_long_is_continued(serve_ops: ServeOps) -> None:
    async with serve_ops(limits=replace(PATIENT_LIMITS, bulk_replay=0)) as ops:
        await park_by_check(ops)
        browser = Browser(ops)
        preview = await browser.submit(await browser.log_in(), "Preview")
        assert "The preview took too long." in preview.text
        result = await browser.submit(preview, "Replay")
        assert "The time was over" in result.text
        again = result.find_form("Replay").fields
        assert again["since"] > "2026"
        assert again.keys() == {*preview.find_form("Replay").fields, "since"}


async def test_a_failure_of_the_database_is_a_page(ops: OpsWorld, browser: Browser) -> None:
    await ops.db.execute("alter table clerk_sync.events rename to gone")
    page = await browser.open("/ops")
    assert (page.status, page.response.headers["retry-after"]) == (503, "5")
    assert "The database is not available now." in page.text


async def test_reconcile_and_audit(ops_with_clerk: OpsWorld) -> None:
    browser = Browser(ops_with_clerk)
    await browser.log_in()
    page = await browser.submit(await browser.open("/ops/page/reconcile"), "Start")
    assert page.rows[1][1] == "full, dry run"
    audit = await browser.open("/ops/page/audit")
    assert audit.rows[1][1:] == ["page", "reconcile", "mode=full dry_run=true"]


async def test_each_remedy_links_to_its_section(browser: Browser) -> None:
    page = await browser.open("/ops/docs/operations.md")
    anchors = {attributes.get("id") for _, attributes in page.tags}
    assert {remedy.anchor for remedy in REMEDIES} <= anchors
    assert (await browser.world.client.get("/ops/docs/unknown.md", headers={})).status_code == 401


@pytest.mark.parametrize("text", [MARKUP, "\"'><img src=x onerror=alert(1)>", "{{ 77 * 77 }}"])
async def test_markup_in_stored_text_is_escaped(ops: OpsWorld, browser: Browser, text: str) -> None:
    await ops.deliver_ok(make_event("user.created", "user_1", T1, first_name=text), "msg_1")
    await ops.db.execute(
        """
        insert into clerk_sync.events (id, type, clerk_id, status, reason, payload, failures, received_at)
        values ('msg_2', $1::text, 'user_1', 'dead', $1, jsonb_build_object('id', $1::text), $2::jsonb, now())
        """,
        text,
        json.dumps([{"at": "2026-01-01T00:00:00Z", "reason": text, "table": text, "column": text, "constraint": text}]),
    )
    await ops.db.execute("insert into clerk_sync.audit (who, action, subject) values ('page', 'replay', $1)", text)
    overview = await browser.open("/ops")
    pages = [overview, await browser.submit(overview, "Preview")]
    for path in ("events", "events/msg_1", "events/msg_2", "users/user_1", "audit"):
        pages.append(await browser.open(f"/ops/page/{path}"))
        forms = [form.button for form in pages[-1].forms]
        if "Show personal fields" in forms:
            pages.append(await browser.submit(pages[-1], "Show personal fields"))
    for page in pages:
        assert page.status == 200
        assert not [tag for tag, attributes in page.tags if tag == "img" or "onerror" in attributes]
        assert len([tag for tag, _ in page.tags if tag == "script"]) == 1
        assert "<" not in text or text not in page.html
        assert "5929" not in page.html


def list_page_files() -> list[Path]:
    folder = PACKAGE / "web" / "ops" / "page"
    return [*folder.glob("*.py"), *(folder / "templates").iterdir()]


def test_the_page_stays_small() -> None:
    assert sum(len(file.read_text().splitlines()) for file in list_page_files()) < MAX_LINES


def test_no_template_names_another_site_or_has_a_style_of_its_own() -> None:
    for file in list_page_files():
        assert not re.search(r"https?://|\bstyle=|\bon[a-z]+=\"|javascript:", file.read_text()), file.name


def test_libraries_of_the_page_are_imported_only_when_it_is_served() -> None:
    at_the_top = re.compile(r"^(?:from|import) (?:jinja2|markupsafe|markdown_it|starlette.templating)\b", re.MULTILINE)
    for file in PACKAGE.rglob("*.py"):
        assert not at_the_top.search(file.read_text()), file
