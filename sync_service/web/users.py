"""GET /users/{clerk_id}, POST /users/resolve: map Clerk IDs to the app's own rows, for the app's backend."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from sync_service.clerk.resource import ClerkId
from sync_service.errors import DatabaseError
from sync_service.request_errors import BadRequest, BadToken, DeletedUser, UnknownUser
from sync_service.store.identities import resolve_keys
from sync_service.sync.apply import Applier
from sync_service.sync.refresh import UserRefresher
from sync_service.web.auth import Authenticator
from sync_service.web.body import decode_body, read_body
from sync_service.web.limits import TimeLimits, response_deadline
from sync_service.web.metrics.families import Metrics, count_errors
from sync_service.web.operation import BODY_ERRORS, Operation, Parameter, ResponseBody
from sync_service.web.rows import Key, Row, encode_row

MAX_IDS = 1000


class ResolveRequest(Struct):
    """Up to 1,000 IDs of users in Clerk."""

    clerk_ids: Annotated[list[ClerkId], Meta(max_length=MAX_IDS)]


class ResolveResponse(Struct):
    """`users` has the app's own key of each user that has a row."""

    users: dict[str, Key]
    missing: list[str]
    deleted: list[str]


class UserResponse(Struct):
    """The row of one user."""

    user: Row


USER = Operation(
    method="GET",
    path="/users/{clerk_id}",
    summary="Returns one user's row from the database, without a request to Clerk.",
    responses={200: ResponseBody("The row, by column name", UserResponse)},
    errors=(BadToken, UnknownUser, DeletedUser, DatabaseError),
    security=("serviceToken",),
    parameters=(Parameter("clerk_id", "The ID of the user in Clerk", place="path"),),
)

RESOLVE = Operation(
    method="POST",
    path="/users/resolve",
    summary="Returns the app's own keys of up to 1,000 users.",
    responses={200: ResponseBody("The keys by Clerk ID, and the IDs without a row", ResolveResponse)},
    errors=(BadRequest, BadToken, DatabaseError, *BODY_ERRORS),
    security=("serviceToken",),
    body=ResolveRequest,
)


class UserEndpoints:
    """The two endpoints and their dependencies."""

    def __init__(
        self,
        authenticator: Authenticator,
        refresher: UserRefresher,
        applier: Applier,
        metrics: Metrics,
        limits: TimeLimits,
    ) -> None:
        self._authenticator = authenticator
        self._refresher = refresher
        self._store = applier.store
        self._metrics = metrics
        self._limits = limits

    async def get_user(self, request: Request) -> Response:
        """Return one user's row from the database, without a request to Clerk."""
        with count_errors(self._metrics.lookups, "lookup_failed"):
            self._authenticator.require_service_token(request)
            clerk_id = _parse_id(request.path_params["clerk_id"])
            async with response_deadline(self._limits.response):
                state = await self._refresher.get_user_state(clerk_id)
            if state.row is None:
                raise UnknownUser("This user has no row.")
        self._metrics.lookups.labels("found").inc()
        return _create_response(UserResponse(encode_row(state.row)))

    async def resolve(self, request: Request) -> Response:
        """Return the app's own keys of up to 1,000 users."""
        with count_errors(self._metrics.lookups, "lookup_failed"):
            self._authenticator.require_service_token(request)
            body = decode_body(_decoder, await read_body(request, self._limits.body))
            clerk_ids = list(dict.fromkeys(body.clerk_ids))  # each ID once
            async with response_deadline(self._limits.response), self._store.acquire() as bound:
                records = await resolve_keys(bound, clerk_ids)
        result = ResolveResponse({}, [], [])
        for clerk_id, key, deleted in records:
            if deleted:
                result.deleted.append(clerk_id)
            elif key is None:
                result.missing.append(clerk_id)
            else:
                result.users[clerk_id] = encode_row(key)
        self._metrics.lookups.labels("resolved").inc()
        return _create_response(result)


def _parse_id(text: str) -> str:
    try:
        return msgspec.convert(text, ClerkId)
    except msgspec.ValidationError:
        raise UnknownUser("This is not a Clerk ID.") from None


def _create_response(body: Struct) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


_decoder = msgspec.json.Decoder(ResolveRequest)
