"""The routes of the page: its login, its errors, the check of each form."""

import contextlib
import functools
import re

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sync_service.errors import ClerkUnavailable, DatabaseError
from sync_service.operator_errors import TooManyLogins
from sync_service.request_errors import BadToken, RequestError
from sync_service.web.body import read_form
from sync_service.web.limits import response_deadline
from sync_service.web.ops.auth import Operator
from sync_service.web.ops.context import OpsContext
from sync_service.web.ops.page import actions, views
from sync_service.web.ops.page.rendering import Renderer, View
from sync_service.web.ops.page.views import Call, Handler
from sync_service.web.ops.sessions import COOKIE_NAME
from sync_service.web.problems import clerk_unavailable, client_error, database_error

HOME = "/ops"

# The pages that a login may return to.
_OWN_PATH = re.compile(r"/ops/(?:page|docs)/[!-~]{1,500}")

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", HOME, views.show_overview),
    ("GET", "/ops/page/events", views.list_events),
    ("POST", "/ops/page/events/{id:path}/personal", actions.show_event_fields),
    ("GET", "/ops/page/events/{id:path}", views.show_event),
    ("GET", "/ops/page/users/{clerk_id:path}", views.show_user),
    ("POST", "/ops/page/users/{clerk_id:path}/personal", actions.show_user_fields),
    ("POST", "/ops/page/users/{clerk_id:path}/refresh", actions.refresh_user),
    ("POST", "/ops/page/users/{clerk_id:path}/restore", actions.restore_user),
    ("POST", "/ops/page/search", actions.search),
    ("POST", "/ops/page/preview", actions.preview),
    ("POST", "/ops/page/replay", actions.replay),
    ("GET", "/ops/page/reconcile", views.list_reconciles),
    ("POST", "/ops/page/reconcile", actions.start_reconcile),
    ("POST", "/ops/page/changes/{id}/replay", actions.replay_delivery),
    ("GET", "/ops/page/audit", views.list_audit),
    ("POST", "/ops/page/logout", actions.log_out),
    ("GET", "/ops/docs/{name}.md", views.show_documentation),
)

# These limit their time themselves.
LONG_HANDLERS = frozenset({actions.preview, actions.replay})

_PROBLEMS = ((RequestError, client_error), (DatabaseError, database_error), (ClerkUnavailable, clerk_unavailable))


def create_page_routes() -> list[Route]:
    """Return the routes of the page for Starlette."""
    renderer = _create_renderer()
    endpoints = [Route(path, _Endpoint(renderer, handler), methods=[method]) for method, path, handler in ROUTES]
    return [Route(HOME, _Endpoint(renderer, None), methods=["POST"]), *endpoints]


# One for all apps of a process: a test creates hundreds.
_create_renderer = functools.cache(Renderer)


class _Endpoint:
    """Authenticates the operator, checks the form, calls the handler, and renders its view or its error.

    Without a handler, it exchanges the operators' token for the cookie.
    """

    def __init__(self, renderer: Renderer, handler: Handler | None) -> None:
        self._renderer = renderer
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        ops: OpsContext = request.state.ops
        try:
            response = await (self._respond(request, ops, self._handler) if self._handler else log_in(request, ops))
        except (BadToken, TooManyLogins) as error:
            response = self._renderer.render(_ask_for_token(request, error))
        except RequestError as error:
            response = self._renderer.render(_describe_error(request, error))
        await response(scope, receive, send)

    async def _respond(self, request: Request, ops: OpsContext, handler: Handler) -> Response:
        operator = ops.authenticator.identify(request)
        limit = contextlib.nullcontext() if handler in LONG_HANDLERS else response_deadline(ops.limits.response)
        try:
            async with limit:
                found = await handler(await _read_call(ops, request, operator))
        except (RequestError, DatabaseError, ClerkUnavailable) as error:
            found = _describe_error(request, error)
        if isinstance(found, Response):
            return found
        session = operator.session
        return self._renderer.render(found, ops.authenticator.keys.create_csrf_token(session) if session else "")


async def log_in(request: Request, ops: OpsContext) -> Response:
    """Exchange the token of the form for the cookie. Raises `BadToken` or `TooManyLogins`."""
    form = await read_form(request, ops.limits.body)
    session = ops.authenticator.log_in(request, form.get("token", ""))
    target = form.get("next", HOME)
    response = RedirectResponse(target if _OWN_PATH.fullmatch(target) else HOME, 303)
    ops.authenticator.set_cookie(request, response, session)
    return response


async def _read_call(ops: OpsContext, request: Request, operator: Operator) -> Call:
    """Return the request with its form. Raises `BadCsrfToken` for a form without the token of the session."""
    form = await read_form(request, ops.limits.body) if request.method == "POST" else {}
    if request.method == "POST" and operator.session:
        ops.authenticator.check_csrf_token(operator.session, form.get("csrf_token", ""))
    return Call(ops, request, operator, form)


def _ask_for_token(request: Request, error: RequestError) -> View:
    """Return the login. Its first display is no error."""
    target = request.url.path if request.method == "GET" else HOME
    message = ""
    if "authorization" in request.headers or (request.method, request.url.path) == ("POST", HOME):
        message = str(error)
    elif COOKIE_NAME in request.cookies:
        message = "Your session has ended."
    status = error.status if message or request.url.path != HOME else 200
    return View("login.html", {"message": message, "next": target}, status, error.headers)


def _describe_error(request: Request, error: RequestError | DatabaseError | ClerkUnavailable) -> View:
    """Return an error as a page, with the texts and the log line of the JSON API."""
    response = next(respond for kind, respond in _PROBLEMS if isinstance(error, kind))(request, error)
    headers = {name: value for name, value in response.headers.items() if name == "retry-after"}
    return View("error.html", {"problem": msgspec.json.decode(response.body)}, response.status_code, headers)
