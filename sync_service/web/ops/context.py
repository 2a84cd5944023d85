"""The objects that the routes of the operators' interface share, and the description of one route."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from sync_service.big_integers import quote_big_integers
from sync_service.clerk.resource import ClerkId
from sync_service.errors import DatabaseError
from sync_service.operator_errors import BadCsrfToken, TooManyLogins
from sync_service.request_errors import BadRequest, BadToken
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from sync_service.sync.reconcile_request import ReconcileStarter
from sync_service.sync.refresh import UserRefresher
from sync_service.web.limits import TimeLimits
from sync_service.web.operation import BODY_ERRORS, Method, Operation, Parameter, ResponseBody, RouteError
from sync_service.web.ops.auth import Operator, OpsAuthenticator


@dataclass(frozen=True, slots=True)
class OpsContext:
    """The interface of one process. `store` has its own part of the pool; `reconciles` needs CLERK_SECRET_KEY."""

    authenticator: OpsAuthenticator
    store: Store
    replayer: Applier
    refresher: UserRefresher
    reconciles: ReconcileStarter | None
    limits: TimeLimits


@dataclass(frozen=True, slots=True)
class Reply:
    """The body of a response, and its status."""

    body: Struct
    status: int = 200


Handler = Callable[[OpsContext, Request, Operator], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One route. One that `takes_long` limits its time itself."""

    operation: Operation
    handler: Handler
    takes_long: bool = False


def create_operation(
    method: Method,
    path: str,
    responses: Mapping[int, ResponseBody],
    errors: tuple[RouteError, ...] = (),
    *,
    summary: str,
    parameters: tuple[Parameter, ...] = (),
    body: type[Struct] | None = None,
    body_required: bool = True,
) -> Operation:
    """Return the description of a route, with the errors that all routes have."""
    common = (BadRequest, BadToken, TooManyLogins, DatabaseError)
    of_method: tuple[RouteError, ...] = (BadCsrfToken,) if method == "POST" else ()
    return Operation(
        method=method,
        path=path,
        summary=summary,
        responses=responses,
        errors=(*common, *of_method, *(BODY_ERRORS if body else ()), *errors),
        security=("opsToken",),
        parameters=parameters,
        body=body,
        body_required=body_required,
    )


def create_response(reply: Reply) -> Response:
    """Return the reply as JSON, in which JavaScript can read each integer exactly."""
    text = quote_big_integers(msgspec.json.encode(reply.body).decode())
    return Response(text, reply.status, media_type="application/json")


def is_clerk_id(text: str) -> bool:
    """Return whether Clerk or Svix could have made this ID."""
    try:
        msgspec.convert(text, ClerkId)
    except msgspec.ValidationError:
        return False
    return True
