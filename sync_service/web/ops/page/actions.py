"""The forms of the page: search, previews, replays, personal fields, users, reconcile."""

from typing import Any
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from sync_service.request_errors import BadRequest
from sync_service.store.events import list_events
from sync_service.store.search import find_by_text
from sync_service.sync.preview import preview_event
from sync_service.sync.replay import BulkResult, replay_all, replay_event
from sync_service.web.ops import deliveries, events, replays, users
from sync_service.web.ops.page.rendering import View
from sync_service.web.ops.page.views import Call, show_event, show_user
from sync_service.web.ops.parameters import parse_form_filter
from sync_service.web.ops.reconciles import ReconcileRequest, start_run

# Rows that a preview of many events shows: those of the newest events.
MAX_EXAMPLES = 5

MAX_SEARCH = 320


async def search(call: Call) -> View | Response:
    """Redirect to the event, user or object of an ID, or to the user of an email, which is then in no URL."""
    text = call.form.get("query", "").strip()
    if not (0 < len(text) <= MAX_SEARCH and text.isprintable()):
        raise BadRequest("Search for the ID of a user, the ID of an event, or an email address.")
    async with call.ops.store.database.acquire() as connection:
        found = await find_by_text(connection, call.ops.store.binding.lookups, text)
    if len(found) == 1:
        kind, found_id = found[0]
        place = "events?clerk_id=" if kind == "objects" else f"{kind}/"
        return RedirectResponse(f"/ops/page/{place}{quote(found_id, safe='')}", 303)
    return View("search.html", {"found": found}, 200 if found else 404)


async def preview(call: Call) -> View:
    """Return the changes that a replay would make. It shows personal values, so the audit has it."""
    if message_id := call.form.get("id"):
        rows, result, subject = [await _preview_row(call, message_id)], None, message_id
    else:
        selection = parse_form_filter(call.form)
        result = await _replay_all(call, dry_run=True)
        async with call.ops.store.database.acquire() as connection:
            examples = await list_events(connection, selection, MAX_EXAMPLES)
        rows = [await _preview_row(call, event.id) for event in examples]
        subject = selection.describe(is_stored=bool(rows))
    await call.record("preview", subject)
    return View("preview.html", {"fields": _repeat_fields(call), "rows": rows, "result": result})


async def replay(call: Call) -> View:
    """Apply the selected events again, and return the outcomes."""
    reason = None
    if message_id := call.form.get("id"):
        event = await events.find_event(call.ops, message_id)
        outcome = await replay_event(call.ops.replayer, event, call.operator.who)
        replays.raise_if_unavailable(outcome.outcome, outcome.reason)
        result, reason = BulkResult({outcome.outcome: 1}, None), outcome.reason
    else:
        result = await _replay_all(call, dry_run=False)
    return View("result.html", {"fields": _repeat_fields(call), "reason": reason, "result": result})


async def _preview_row(call: Call, message_id: str) -> dict[str, Any]:
    event = await events.find_event(call.ops, message_id)
    change, failure = await preview_event(call.ops.replayer, event)
    replays.raise_if_unavailable(change.outcome, change.reason)
    return {"event": event, "change": change, "failure": failure}


async def _replay_all(call: Call, *, dry_run: bool) -> BulkResult:
    selection, who = parse_form_filter(call.form), call.operator.who
    seconds = call.ops.limits.bulk_replay
    return await replay_all(call.ops.replayer, selection, who=who, dry_run=dry_run, max_seconds=seconds)


def _repeat_fields(call: Call) -> dict[str, str]:
    """Return the fields that select the same events in the next form."""
    return {name: text for name, text in call.form.items() if name != "csrf_token"}


async def show_event_fields(call: Call) -> View:
    """Return an event with the personal fields of its payload, and record that."""
    view = await show_event(call)
    await call.record("show_personal_fields", view.variables["event"].id)
    return View(view.template, view.variables | {"is_masked": False})


async def show_user_fields(call: Call) -> View:
    """Return a user with the personal fields of the row, and record that."""
    view = await show_user(call, is_masked=False)
    await call.record("show_personal_fields", view.variables["user"].clerk_id)
    return view


async def refresh_user(call: Call) -> View:
    """Ask Clerk about a user, and return the user's page with the outcome."""
    result = await call.fetch(users.refresh)
    return await show_user(call, notice=f"Asked Clerk. Outcome: {result.outcome}.")


async def restore_user(call: Call) -> View:
    """Cancel a user's deletion, and return the user's page."""
    await call.fetch(users.restore)
    return await show_user(call, notice="The deletion is cancelled.")


async def replay_delivery(call: Call) -> Response:
    """Make one delivery due again, and redirect to the list of them."""
    await call.fetch(deliveries.replay_change)
    return RedirectResponse("/ops", 303)


async def start_reconcile(call: Call) -> Response:
    """Start a run, and redirect to the list of runs."""
    await start_run(call.ops, call.operator, ReconcileRequest("dry_run" in call.form, "recent" in call.form))
    return RedirectResponse("/ops/page/reconcile", 303)


async def log_out(call: Call) -> Response:
    """Remove the cookie, and redirect to the login."""
    response = RedirectResponse("/ops", 303)
    call.ops.authenticator.clear_cookie(call.request, response)
    return response
