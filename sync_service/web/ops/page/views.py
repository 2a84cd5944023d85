"""The pages that a browser reads. Most show the data of one route of the JSON API."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sync_service.documentation import list_pages, render_page
from sync_service.store.audit import AuditEntry, add_entry
from sync_service.store.deliveries import list_deliveries
from sync_service.store.event_filter import STATUSES
from sync_service.store.events import EventSummary
from sync_service.store.failure_groups import list_failure_groups
from sync_service.store.summary import count_by_hour
from sync_service.store.user_history import UserHistory
from sync_service.web.ops import audit, context, events, reconciles, summary, users
from sync_service.web.ops.auth import Operator
from sync_service.web.ops.page.chart import build_bars
from sync_service.web.ops.page.rendering import View

CHART_HOURS = 24

# Failed deliveries of the overview. `sync-service changes list` shows all.
MAX_DELIVERIES = 10

# The service applies these by itself at a later time.
EXPECTED_REASONS = frozenset({"delete_grace", "long_deletion"})


class Call(Struct, frozen=True):
    """A request to the page by an operator, with the fields of its form."""

    ops: context.OpsContext
    request: Request
    operator: Operator
    form: dict[str, str]

    async def fetch(self, handler: context.Handler) -> Any:
        """Return the data of a route of the JSON API."""
        return (await handler(self.ops, self.request, self.operator)).body

    async def record(self, action: str, subject: str) -> None:
        """Add the action to the audit."""
        async with self.ops.store.database.acquire() as connection:
            await add_entry(connection, AuditEntry(self.operator.who, action, subject))


Handler = Callable[[Call], Awaitable[View | Response]]


async def show_overview(call: Call) -> View:
    """Return the problems with their remedies, then the state of the service."""
    async with call.ops.store.database.acquire() as connection:
        groups = await list_failure_groups(connection)
        figures = await summary.build_summary(connection)
        hours = await count_by_hour(connection, CHART_HOURS)
        deliveries = await list_deliveries(connection, None, MAX_DELIVERIES)
    groups.sort(key=lambda group: group.reason in EXPECTED_REASONS)
    variables = {"groups": groups, "expected": EXPECTED_REASONS, "summary": figures, "bars": build_bars(hours)}
    return View("overview.html", variables | {"deliveries": deliveries})


async def list_events(call: Call) -> View:
    """Return a page of the events that a filter selects."""
    found = await call.fetch(events.list_page)
    given = {name: text for name, text in call.request.query_params.items() if text}
    fields = {name: text for name, text in given.items() if name not in {"limit", "cursor"}}
    return View("events.html", {"found": found, "given": given, "fields": fields, "statuses": STATUSES})


async def show_event(call: Call) -> View:
    """Return an event with its attempts and its payload, without the personal fields."""
    return View("event.html", {"event": await call.fetch(events.show), "is_masked": True})


async def show_user(call: Call, *, is_masked: bool = True, notice: str = "") -> View:
    """Return the row, the state and the history of a user."""
    user = await call.fetch(users.show)
    variables = {"user": user, "moments": list_moments(user), "is_masked": is_masked, "notice": notice}
    return View("user.html", variables)


def list_moments(user: UserHistory) -> list[tuple[datetime, str, EventSummary | None]]:
    """Return the history of a user, the newest moment first (pure)."""
    moments: list[tuple[datetime | None, str, EventSummary | None]] = []
    if identity := user.identity:
        moments += [
            (identity.first_seen_at, f"First seen, by {identity.created_by}", None),
            (identity.changed_at, "Last change", None),
            (identity.confirmed_at, "Last comparison with Clerk", None),
            (identity.deleted_at, "Deleted in Clerk", None),
            (identity.restored_at, "Deletion cancelled", None),
            (user.deletion.due_at if user.deletion else None, "The deferred deletion is due", None),
        ]
    moments += [(event.received_at, event.type, event) for event in user.events]
    known = [(at, title, event) for at, title, event in moments if at]
    return sorted(known, key=lambda moment: moment[0], reverse=True)


async def list_reconciles(call: Call) -> View:
    """Return the runs of the reconcile, and the form that starts one."""
    return View("reconcile.html", {"found": await call.fetch(reconciles.list_reconciles)})


async def list_audit(call: Call) -> View:
    """Return the last actions of operators."""
    return View("audit.html", {"found": await call.fetch(audit.list_audit)})


async def show_documentation(call: Call) -> View:
    """Return a page of the documentation, such as the runbook. Its links to other pages work here, too."""
    name = call.request.path_params["name"]
    if name not in list_pages():
        raise HTTPException(404)
    return View("documentation.html", {"name": name, "html": render_page(name)})
