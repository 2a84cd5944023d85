"""Around every request: an ID and the message's ID on every line of the log, one line at the end, no redirect."""

import os
import re
import time

import structlog
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger()

# What a platform's router or a caller may give us to write into the log. Anything else might be anything.
_ID = re.compile(rb"[\w.:-]{1,80}")


class Requests:
    """Pure ASGI, outside of Starlette: its own base class for this would copy every body.

    The route that is `most_asked` is served from here: Starlette's layers below would be a tenth of all that it costs.
    It answers its own errors, therefore, and those that nobody foresaw.
    """

    def __init__(self, app: ASGIApp, most_asked: Route) -> None:
        self.app = app
        self._most_asked = most_asked
        # Bound once: a logger that is not looks its configuration up for every line.
        self._log = log.bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # Looked through once; Starlette's `Headers` would be for each name.
        given = dict(scope["headers"])
        request_id = _id(given.get(b"x-request-id")) or os.urandom(16).hex()
        message_id = _id(given.get(b"svix-id")) or _id(given.get(b"webhook-id"))
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id, **({"svix_id": message_id} if message_id else {}))
        # Clerk's deliveries do not follow redirects, so a slash too many is taken off here.
        path = scope["path"]
        scope["path"] = path.rstrip("/") or "/"
        began = time.perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        app, most_asked = self.app, self._most_asked
        if scope["path"] == most_asked.path and scope["method"] in (most_asked.methods or ()):
            app, scope["route"] = most_asked.app, most_asked
        try:
            await app(scope, receive, send_with_id)
        finally:
            # The route's pattern, not the path: a path may hold anything, a user's ID too.
            route = getattr(scope.get("route"), "path", None)
            tell = self._log.debug if route in QUIET and status < 400 else self._log.info
            tell(
                "request",
                method=scope["method"],
                route=route,
                status=status,
                ms=round((time.perf_counter() - began) * 1000, 1),
            )


# Asked every few seconds by every platform; or, when all is well, told of by a line of its own.
QUIET = frozenset(
    {"/healthz", "/readyz", "/metrics", "/webhooks/clerk", "/sync", "/users/{clerk_id}", "/users/resolve"}
)


def _id(given: bytes | None) -> str | None:
    return given.decode() if given and _ID.fullmatch(given) else None
