"""Middleware for every request: IDs in the log context, one log line, no trailing slash."""

import os
import re
import time

import structlog
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sync_service.logs import set_context

log = structlog.get_logger()

# IDs come from a platform's router or from the caller. Other text is not logged: it may contain personal data.
_ID = re.compile(rb"[\w.:-]{1,80}")


class RequestLogMiddleware:
    """Pure ASGI around Starlette, because Starlette's `BaseHTTPMiddleware` copies every body.

    The middleware calls `fast_route` directly: Starlette's own layers take a tenth of that route's time. The route
    must therefore respond to its own errors, unexpected ones included.
    """

    def __init__(self, app: ASGIApp, fast_route: Route) -> None:
        self.app = app
        self._fast_route = fast_route
        self._fast_methods = frozenset(fast_route.methods or ())
        # Bound once: an unbound logger looks up its configuration for every line.
        self._log = log.bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # A dict is faster: Starlette's `Headers` scans all headers for each name.
        headers = dict(scope["headers"])
        request_id = _parse_id(headers.get(b"x-request-id")) or os.urandom(16).hex()
        message_id = _parse_id(headers.get(b"svix-id")) or _parse_id(headers.get(b"webhook-id"))
        fields = {"request_id": request_id}
        if message_id:
            fields["svix_id"] = message_id
        set_context(fields)
        # Svix does not follow redirects, so a trailing slash is removed here.
        scope["path"] = scope["path"].rstrip("/") or "/"
        began = time.perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        app, fast_route = self.app, self._fast_route
        if scope["path"] == fast_route.path and scope["method"] in self._fast_methods:
            app, scope["route"] = fast_route.app, fast_route
        try:
            await app(scope, receive, send_with_id)
        finally:
            # The route's pattern, not the path: a path may contain a user's ID or any other text.
            route = getattr(scope.get("route"), "path", None)
            write = self._log.debug if route in UNLOGGED_ROUTES and status < 400 else self._log.info
            write(
                "request",
                method=scope["method"],
                route=route,
                status=status,
                ms=round((time.perf_counter() - began) * 1000, 1),
            )


# Successful requests of these routes are logged at level debug: platforms poll the first three every few seconds, and
# the others are counted or have a log line of their own.
UNLOGGED_ROUTES = frozenset(
    {"/healthz", "/readyz", "/metrics", "/webhooks/clerk", "/sync", "/users/{clerk_id}", "/users/resolve"}
)


def _parse_id(value: bytes | None) -> str | None:
    return value.decode() if value and _ID.fullmatch(value) else None
