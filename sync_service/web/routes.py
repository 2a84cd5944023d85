"""The routes, and GET /openapi.json, which describes them."""

from functools import cache

import msgspec
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sync_service.settings import Settings
from sync_service.web.changes import CHANGES, ChangesEndpoint
from sync_service.web.health import HEALTHZ, READYZ, Readiness, healthz
from sync_service.web.metrics.endpoint import METRICS, MetricsEndpoint
from sync_service.web.openapi import OPENAPI, describe_interface
from sync_service.web.ops.page.routes import create_page_routes
from sync_service.web.ops.routes import API_ROUTES
from sync_service.web.ops.routes import create_routes as create_ops_routes
from sync_service.web.sync import SYNC, SyncEndpoint
from sync_service.web.users import RESOLVE, USER, UserEndpoints
from sync_service.web.webhooks import WEBHOOK, WebhookEndpoint

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
        Route(RESOLVE.path, _resolve, methods=[RESOLVE.method]),
        Route(USER.path, _user),
        Route(CHANGES.path, _changes),
        Route(HEALTHZ.path, healthz),
        Route(READYZ.path, _readyz),
        Route(METRICS.path, _metrics),
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
    if not origins:
        return Route(SYNC.path, _sync, methods=[SYNC.method])
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
        expose_headers=["Retry-After", "X-Request-Id"],
    )
    # A route checks the method before its middleware runs, so it must accept OPTIONS for the CORS preflight.
    return Route(SYNC.path, _sync, methods=[SYNC.method, "OPTIONS"], middleware=[cors])


async def _sync(request: Request) -> Response:
    sync: SyncEndpoint = request.state.sync
    return await sync.endpoint(request)


async def _user(request: Request) -> Response:
    users: UserEndpoints = request.state.users
    return await users.get_user(request)


async def _resolve(request: Request) -> Response:
    users: UserEndpoints = request.state.users
    return await users.resolve(request)


async def _changes(request: Request) -> Response:
    changes: ChangesEndpoint = request.state.changes
    return await changes.endpoint(request)


async def _readyz(request: Request) -> Response:
    readiness: Readiness = request.state.readiness
    return await readiness.endpoint(request)


async def _metrics(request: Request) -> Response:
    metrics: MetricsEndpoint = request.state.metrics
    return await metrics.endpoint(request)


async def _openapi(request: Request) -> Response:
    return Response(encode_description(), media_type="application/json")


@cache
def encode_description() -> bytes:
    """Return the OpenAPI document of all routes as JSON."""
    return msgspec.json.format(msgspec.json.encode(describe_interface(OPERATIONS)), indent=2)
