"""The routes, and GET /openapi.json, which describes them."""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import TypeAlias

import msgspec
from starlette.datastructures import State
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sync_service.settings import Settings
from sync_service.web.changes import CHANGES
from sync_service.web.health import HEALTHZ, READYZ, healthz
from sync_service.web.metrics.endpoint import METRICS
from sync_service.web.openapi import OPENAPI, describe_interface
from sync_service.web.ops.page.routes import create_page_routes
from sync_service.web.ops.routes import API_ROUTES
from sync_service.web.ops.routes import create_routes as create_ops_routes
from sync_service.web.sync import SYNC
from sync_service.web.users import RESOLVE, USER
from sync_service.web.webhooks import WEBHOOK, WebhookEndpoint

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

# All routes, in the order of the document.
OPERATIONS = (
    *(WEBHOOK, SYNC, USER, RESOLVE, CHANGES, HEALTHZ, READYZ, METRICS, OPENAPI),
    *(route.operation for route in API_ROUTES),
)


def create_routes(settings: Settings) -> list[Route]:
    """Return the routes; the first one is that of the webhooks."""
    return [
        Route(WEBHOOK.path, _WebhookApp(), methods=[WEBHOOK.method]),
        _create_sync_route(settings),
        Route(RESOLVE.path, _call(lambda state: state.users.resolve), methods=[RESOLVE.method]),
        Route(USER.path, _call(lambda state: state.users.get_user)),
        Route(CHANGES.path, _call(lambda state: state.changes.endpoint)),
        Route(HEALTHZ.path, healthz),
        Route(READYZ.path, _call(lambda state: state.readiness.endpoint)),
        Route(METRICS.path, _call(lambda state: state.metrics.endpoint)),
        Route(OPENAPI.path, _openapi),
        *((*create_page_routes(), *create_ops_routes()) if settings.sync_ops_token else ()),
    ]


class _WebhookApp:
    """A class, not a function, so that Starlette passes the ASGI arguments unchanged."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint: WebhookEndpoint = scope["state"]["webhook"]
        await endpoint(scope, receive, send)


def _create_sync_route(settings: Settings) -> Route:
    """Return the route. Browsers may call it only from those authorized parties that are origins."""
    # Browser extensions and web views have schemes of their own: `chrome-extension://…`, `tauri://localhost`.
    origins = [party.rstrip("/") for party in settings.clerk_authorized_parties if "://" in party]
    sync = _call(lambda state: state.sync.endpoint)
    if not origins:
        return Route(SYNC.path, sync, methods=[SYNC.method])
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
        expose_headers=["Retry-After", "X-Request-Id"],
    )
    # A route checks the method before its middleware runs, so it must accept OPTIONS for the CORS preflight.
    return Route(SYNC.path, sync, methods=[SYNC.method, "OPTIONS"], middleware=[cors])


def _call(select: Callable[[State], Handler]) -> Handler:
    """Return the function of a route. Its endpoint exists only after the app's start, in the state of each request."""

    async def endpoint(request: Request) -> Response:
        return await select(request.state)(request)

    return endpoint


async def _openapi(request: Request) -> Response:
    return Response(encode_description(), media_type="application/json")


@cache
def encode_description() -> bytes:
    """Return the OpenAPI document of all routes as JSON."""
    return msgspec.json.format(msgspec.json.encode(describe_interface(OPERATIONS)), indent=2)
