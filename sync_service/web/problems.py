"""Error responses as problem details (RFC 9457). None names a table, a statement, a secret or a person."""

from http import HTTPStatus

import msgspec
import structlog
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from sync_service.errors import ClerkUnavailable, DatabaseError
from sync_service.request_errors import RequestError

log = structlog.get_logger()


class Problem(Struct, omit_defaults=True):
    """The body of an error response. `code` is stable; `title` and `detail` are for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    reason: str | None = None


def problem(
    status: int,
    code: str,
    title: str,
    detail: str = "",
    headers: dict[str, str] | None = None,
    *,
    reason: str | None = None,
) -> Response:
    """Return a response of type `application/problem+json`."""
    body = Problem("about:blank", title, status, detail or title, code, reason)
    return Response(msgspec.json.encode(body), status, headers, "application/problem+json")


def client_error(request: Request, error: Exception) -> Response:
    """Return the 4xx response to an error of the caller."""
    assert isinstance(error, RequestError)  # noqa: S101  HANDLERS registers this function for that class
    return problem(error.status, error.code, error.title, str(error), dict(error.headers), reason=error.reason)


def database_error(request: Request, error: Exception) -> Response:
    """Return 503 with `Retry-After`: the database failed, and a later attempt can succeed."""
    assert isinstance(error, DatabaseError)  # noqa: S101  as above
    log.error("database_error", reason=error.reason, exc_info=error)
    return problem(
        503,
        "unavailable",
        "Database unavailable",
        "The database is not available now. Send the request again later.",
        {"Retry-After": str(error.retry_after_seconds)},
    )


def clerk_unavailable(request: Request, error: Exception) -> Response:
    """Return 503 with `Retry-After`: the response needs data from Clerk, and Clerk is unavailable."""
    assert isinstance(error, ClerkUnavailable)  # noqa: S101  as above
    return problem(
        503,
        "clerk_unavailable",
        "Clerk unavailable",
        "The response needs data from Clerk, and Clerk is not available now. Send the request again later.",
        {"Retry-After": str(error.retry_after_seconds)},
    )


_NEXT_STEPS = {
    HTTPStatus.NOT_FOUND: "The service has no such path. GET /openapi.json describes all paths.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The path does not take this method. The header Allow lists the methods it takes.",
}


def http_error(request: Request, error: Exception) -> Response:
    """Return the response to Starlette's own errors: unknown route, wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101  as above
    status = HTTPStatus(error.status_code)
    detail = _NEXT_STEPS.get(status, "")
    return problem(status, status.name.lower(), status.phrase, detail, dict(error.headers or {}))


def internal_error(request: Request, error: Exception) -> Response:
    """Return 500 for an unexpected exception; Svix keeps the event after a 500 and sends it again."""
    log.critical("unhandled_exception", exc_info=error)
    return problem(
        500,
        "internal_server_error",
        "Internal Server Error",
        "The service failed with an internal error. Send the request again later.",
    )


HANDLERS: dict[type[Exception] | int, ExceptionHandler] = {
    RequestError: client_error,
    DatabaseError: database_error,
    ClerkUnavailable: clerk_unavailable,
    HTTPException: http_error,
    Exception: internal_error,
}
