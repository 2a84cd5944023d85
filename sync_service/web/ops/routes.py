"""The routes of the operators' interface, and the headers of all its responses."""

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sync_service.web.limits import response_deadline
from sync_service.web.ops import audit, deliveries, events, reconciles, replays, summary, users
from sync_service.web.ops.context import ApiRoute, OpsContext, create_response

# Replays come first: the path of one event takes an ID with any character, also with `/replay` at its end.
API_ROUTES: tuple[ApiRoute, ...] = (
    *(*replays.ROUTES, *events.ROUTES, *users.ROUTES),
    *(*summary.ROUTES, *reconciles.ROUTES, *audit.ROUTES, *deliveries.ROUTES),
)

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def create_routes(api_routes: Iterable[ApiRoute] = API_ROUTES) -> list[Route]:
    """Return the routes for Starlette, one for each path."""
    paths: dict[str, dict[str, ApiRoute]] = defaultdict(dict)
    for route in api_routes:
        paths[route.operation.path][route.operation.method] = route
    return [Route(path, _Endpoint(by_method), methods=[*by_method]) for path, by_method in paths.items()]


class _Endpoint:
    """Authenticates the caller, limits the time, and calls the handler of the method."""

    def __init__(self, by_method: Mapping[str, ApiRoute]) -> None:
        self._by_method = by_method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        route = self._by_method["GET" if request.method == "HEAD" else request.method]
        ops: OpsContext = request.state.ops
        operator = ops.authenticator.authenticate(request)
        deadline = contextlib.nullcontext() if route.takes_long else response_deadline(ops.limits.response)
        async with deadline:
            return create_response(await route.handler(ops, request, operator))


class OpsHeaders:
    """Pure ASGI: adds headers to each response under /ops, also to those of Starlette itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not f"{scope['path']}/".startswith("/ops/"):
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, send_with_headers)
