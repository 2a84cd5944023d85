"""POST /sync: return the row of the user at login. The app calls it at every login."""

import time
from typing import Any, Literal

import msgspec
import structlog
from msgspec import UNSET, Raw, Struct, UnsetType, field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sync_service.clerk.change import Snapshot, Version
from sync_service.clerk.json_repair import has_nul, is_deep, parse_tolerantly
from sync_service.clerk.resource import UNREADABLE_JSON, ClerkId
from sync_service.clerk.user import User
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
from sync_service.web.body import decode_body, read_body
from sync_service.web.carry_over import CarryOverJson, CarryOverResponse, read_carry_over
from sync_service.web.limits import TimeLimits, response_deadline
from sync_service.web.metrics.families import Metrics, count_errors
from sync_service.web.operation import BODY_ERRORS, Operation, Parameter, ResponseBody
from sync_service.web.rows import Row, encode_row

log = structlog.get_logger()

# The repair of a larger body would take seconds, and a user of the app may send one.
MAX_REPAIRED_BYTES = 128 * 1024


class SyncRequest(Struct):
    """The user, with the service token. `profile` has Clerk's fields; it creates a missing row only.

    `carry_over` is data from before sign-up, which is written for the user.
    """

    user_id: ClerkId | None = None
    profile: dict[str, Any] | None = None
    carry_over: CarryOverJson = field(default_factory=Raw)


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
            refresh = _parse_refresh(request)
        if session:
            clerk_id = session.clerk_id
            if user_ids - {clerk_id}:
                raise WrongUser("The request names another user than its session token.")
            login = await self._login_service.sync(clerk_id, token_instance=session.instance_id, refresh=refresh)
        else:
            clerk_id = _parse_single_id(user_ids)
            profile = _parse_profile(clerk_id, body.profile)
            login = await self._login_service.sync(clerk_id, refresh=refresh, profile=profile)
        return login.outcome, await self._create_response(clerk_id, login, carry_over)

    async def _read_request(self, request: Request) -> tuple[SyncRequest, CarryOver | None]:
        """Return the body, which is checked as a whole before the service writes a row."""
        if not _BODY_HEADERS.intersection(name for name, _ in request.scope["headers"]):
            return SyncRequest(), None  # most requests have no body
        content = await read_body(request, self._limits.body)
        if not content.strip():
            return SyncRequest(), None
        try:
            body, replaced = _parse_body(content)
        except UNREADABLE_JSON:
            return decode_body(_decoder, content), None  # raises the error for the caller
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


def _parse_body(content: bytes) -> tuple[SyncRequest, tuple[str, ...]]:
    """Return the body, and the fields with a replaced value. Raises one of `UNREADABLE_JSON`, or `BadRequest`."""
    if len(content) <= MAX_REPAIRED_BYTES:
        return parse_tolerantly(_decoder.decode, content)
    if has_nul(content) or is_deep(content):
        raise BadRequest("A body of more than 128 KiB must not contain NUL or more than 500 levels of nesting.")
    return _decoder.decode(content), ()


def _parse_refresh(request: Request) -> bool:
    text = request.query_params.get("refresh", "false").lower()
    if text not in {"true", "false", "1", "0", ""}:
        raise BadRequest("The parameter refresh must be true or false.")
    return text in {"true", "1"}


def _parse_single_id(user_ids: set[str]) -> str:
    """Return the ID of the one user that the backend names. Raises `BadRequest`."""
    if len(user_ids) != 1:
        raise BadRequest("The app's backend must name one user: user_id in the body, or the header X-Clerk-User-Id.")
    try:
        return msgspec.convert(user_ids.pop(), ClerkId)
    except msgspec.ValidationError:
        raise BadRequest("user_id is not a Clerk ID.") from None


def _parse_profile(clerk_id: str, profile: dict[str, Any] | None) -> Snapshot | None:
    """Return the app's profile as a snapshot of Clerk's user, older than any version from Clerk.

    Raises `BadRequest`.
    """
    if profile is None:
        return None
    if profile.get("id", clerk_id) != clerk_id:
        raise BadRequest("The profile belongs to another user.")
    updated_at = profile.get("updated_at") or int(time.time() * 1000)
    data = profile | {"id": clerk_id, "updated_at": updated_at}
    try:
        return Snapshot(msgspec.convert(data, User), Version(0, b""), data)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadRequest(f"The profile does not consist of Clerk's fields: {error}.") from None


_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})

_decoder = msgspec.json.Decoder(SyncRequest)
