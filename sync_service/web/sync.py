"""POST /sync: return the row of the user at login. The app calls it at every login."""

from typing import Literal

import msgspec
import structlog
from msgspec import UNSET, Struct, UnsetType
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sync_service.clerk.resource import ClerkId
from sync_service.errors import ClerkUnavailable, DatabaseError
from sync_service.request_errors import (
    BadRequest,
    BadToken,
    DeletedUser,
    RowRefused,
    TooManyRequests,
    UnknownUser,
    WrongUser,
)
from sync_service.sync.carry_over import CarryOver, CarryOverService
from sync_service.sync.login import Login, LoginService
from sync_service.web.auth import Authenticator
from sync_service.web.body import read_body
from sync_service.web.carry_over import CarryOverResponse, read_carry_over
from sync_service.web.limits import TimeLimits, response_deadline
from sync_service.web.metrics.families import Metrics, count_errors
from sync_service.web.operation import BODY_ERRORS, Operation, Parameter, ResponseBody
from sync_service.web.rows import Row, encode_row
from sync_service.web.sync_request import SyncRequest, parse_body, parse_profile, parse_refresh, parse_single_id

log = structlog.get_logger()


class SyncResponse(Struct):
    """The row as it is committed. `unverified`: Clerk could not be asked, or the row comes from a profile."""

    outcome: Literal["current", "created", "updated", "unverified"]
    user: Row
    carry_over: CarryOverResponse | UnsetType = UNSET


SYNC = Operation(
    method="POST",
    path="/sync",
    summary="Returns the row of the user who signs in. The row exists and is committed.",
    responses={200: ResponseBody("The row, by column name", SyncResponse)},
    errors=(
        *(BadRequest, BadToken, WrongUser, UnknownUser, DeletedUser, RowRefused, TooManyRequests),
        *(ClerkUnavailable, DatabaseError),
        *BODY_ERRORS,
    ),
    security=("sessionToken", "serviceToken"),
    parameters=(
        Parameter("refresh", "`true` asks Clerk even if the row is fresh", Literal["true", "false", "1", "0", ""]),
        Parameter("X-Clerk-User-Id", "The user, with the service token", ClerkId, place="header"),
    ),
    body=SyncRequest,
    body_required=False,
)


class SyncEndpoint:
    """The endpoint and its dependencies."""

    def __init__(
        self,
        authenticator: Authenticator,
        login_service: LoginService,
        carry_overs: CarryOverService,
        metrics: Metrics,
        limits: TimeLimits,
    ) -> None:
        self._authenticator = authenticator
        self._login_service = login_service
        self._carry_overs = carry_overs
        self._metrics = metrics
        self._limits = limits

    async def endpoint(self, request: Request) -> Response:
        """Return the response to one login."""
        if request.method != "POST":  # with CORS the route accepts OPTIONS too
            raise HTTPException(405, headers={"Allow": "POST"})
        with self._metrics.login_seconds.time(), count_errors(self._metrics.logins, "login_failed"):
            async with response_deadline(self._limits.response):
                outcome, response = await self._sync(request)
        self._metrics.logins.labels(outcome).inc()
        # Most logins are `current`. They are counted; a log line for each would cost more than the query.
        write = log.debug if outcome == "current" else log.info
        write("login", outcome=outcome)
        return response

    async def _sync(self, request: Request) -> tuple[str, Response]:
        session = await self._authenticator.authenticate(request)
        body, carry_over = await self._read_request(request)
        user_ids = {value.decode("latin-1") for name, value in request.scope["headers"] if name == b"x-clerk-user-id"}
        if body.user_id:
            user_ids.add(body.user_id)
        refresh = False
        if request.scope["query_string"]:
            user_ids.update(request.query_params.getlist("user_id"))
            refresh = parse_refresh(request)
        if session:
            clerk_id = session.clerk_id
            if user_ids - {clerk_id}:
                raise WrongUser("The request names another user than its session token.")
            login = await self._login_service.sync(clerk_id, token_instance=session.instance_id, refresh=refresh)
        else:
            clerk_id = parse_single_id(user_ids)
            profile = parse_profile(clerk_id, body.profile)
            login = await self._login_service.sync(clerk_id, refresh=refresh, profile=profile)
        return login.outcome, await self._create_response(clerk_id, login, carry_over)

    async def _read_request(self, request: Request) -> tuple[SyncRequest, CarryOver | None]:
        """Return the body, which is checked as a whole before the service writes a row."""
        if not _BODY_HEADERS.intersection(name for name, _ in request.scope["headers"]):
            return SyncRequest(), None  # most requests have no body
        content = await read_body(request, self._limits.body)
        if not content.strip():
            return SyncRequest(), None
        body, replaced = parse_body(content)
        if replaced:
            log.warning("value_replaced", fields=replaced)
        return body, read_carry_over(body.carry_over, content, self._carry_overs.tables)

    async def _create_response(self, clerk_id: str, login: Login, carry_over: CarryOver | None) -> Response:
        response = SyncResponse(login.outcome, encode_row(login.row))
        if carry_over:
            result = await self._carry_overs.write(clerk_id, carry_over)
            response.carry_over = CarryOverResponse(result.status, result.reason)
            if result.user_row:
                response.user = encode_row(result.user_row)
        return Response(msgspec.json.encode(response), media_type="application/json")


_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})
