"""Every error as problem details (RFC 9457). None names a table, a statement, a secret or a person."""

from http import HTTPStatus

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from sync_service.errors import ClerkUnavailable, DatabaseFault, Refusal

log = structlog.get_logger()


def problem(status: int, code: str, title: str, detail: str = "", headers: dict[str, str] | None = None) -> Response:
    """Return an answer of `application/problem+json`."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail or title, "code": code}
    return Response(msgspec.json.encode(body), status, headers, "application/problem+json")


def refused(request: Request, error: Exception) -> Response:
    """Answer what the caller did wrong."""
    assert isinstance(error, Refusal)  # noqa: S101  the class that it is registered for
    return problem(error.status, error.code, error.title, str(error), dict(error.headers))


def unavailable(request: Request, error: Exception) -> Response:
    """Answer that it was not stored, and when to try again."""
    assert isinstance(error, DatabaseFault)  # noqa: S101  as above
    log.error("unavailable", reason=error.reason, exc_info=error)
    return problem(
        503,
        "unavailable",
        "Not available now",
        "The database cannot be asked now. Send it again.",
        {"Retry-After": str(error.retry_after_seconds)},
    )


def clerk_unavailable(request: Request, error: Exception) -> Response:
    """Answer that Clerk would have to be asked and cannot be, and when to try again."""
    assert isinstance(error, ClerkUnavailable)  # noqa: S101  as above
    return problem(
        503,
        "clerk_unavailable",
        "Clerk cannot be asked",
        "The user is not here yet, and Clerk cannot be asked now. Try again.",
        {"Retry-After": str(error.retry_after_seconds)},
    )


def http_error(request: Request, error: Exception) -> Response:
    """Answer what Starlette itself refuses: no such route, another method."""
    assert isinstance(error, HTTPException)  # noqa: S101  as above
    status = HTTPStatus(error.status_code)
    return problem(status, status.name.lower(), status.phrase, headers=dict(error.headers or {}))


def bug(request: Request, error: Exception) -> Response:
    """Answer what nobody foresaw. 500 lets Svix keep the event and send it again."""
    log.critical("bug", exc_info=error)
    return problem(
        500, "internal_server_error", "Internal Server Error", "This is a fault of the service. Send it again."
    )


HANDLERS: dict[type[Exception] | int, ExceptionHandler] = {
    Refusal: refused,
    DatabaseFault: unavailable,
    ClerkUnavailable: clerk_unavailable,
    HTTPException: http_error,
    Exception: bug,
}
