"""GET /users/{clerk_id}, POST /users/resolve: map Clerk IDs to the app's own rows, for the app's backend."""

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct
from starlette.requests import Request
from starlette.responses import Response

from sync_service.clerk.values import ClerkId
from sync_service.errors import UnknownUser
from sync_service.postgres.logins import resolve
from sync_service.sync.apply import Applier
from sync_service.sync.asking import Questions
from sync_service.web.auth import Authenticator
from sync_service.web.body import decode_body, read_body
from sync_service.web.deadline import response_deadline
from sync_service.web.metrics import Metrics, count_errors

MAX_IDS = 1000


class _ResolveRequest(Struct):
    clerk_ids: Annotated[list[ClerkId], Meta(max_length=MAX_IDS)]


class _ResolveResponse(Struct):
    users: dict[str, Raw]
    missing: list[str]
    deleted: list[str]


class _UserResponse(Struct):
    user: Raw


class UserEndpoints:
    """The two endpoints and their dependencies."""

    def __init__(self, authenticator: Authenticator, refresher: Questions, applier: Applier, metrics: Metrics) -> None:
        self._authenticator = authenticator
        self._refresher = refresher
        self._pool = applier.pool
        self._statements = applier.statements
        self._metrics = metrics

    async def get_user(self, request: Request) -> Response:
        """Return one user's row from the database, without a request to Clerk."""
        with count_errors(self._metrics.lookups, "lookup_failed"):
            self._authenticator.require_service_token(request)
            clerk_id = _parse_id(request.path_params["clerk_id"])
            async with response_deadline():
                found = await self._refresher.look(clerk_id)
            if found.row is None:
                raise UnknownUser("This user has no row.")
        self._metrics.lookups.labels("found").inc()
        return _create_response(_UserResponse(Raw(found.row.encode())))

    async def resolve(self, request: Request) -> Response:
        """Return the app's own keys of up to 1,000 users."""
        with count_errors(self._metrics.lookups, "lookup_failed"):
            self._authenticator.require_service_token(request)
            body = decode_body(_decoder, await read_body(request))
            clerk_ids = list(dict.fromkeys(body.clerk_ids))  # each ID once
            async with response_deadline():
                records = await resolve(self._pool, self._statements, clerk_ids)
        result = _ResolveResponse({}, [], [])
        for clerk_id, key, deleted in records:
            if deleted:
                result.deleted.append(clerk_id)
            elif key is None:
                result.missing.append(clerk_id)
            else:
                result.users[clerk_id] = Raw(key.encode())
        self._metrics.lookups.labels("resolved").inc()
        return _create_response(result)


def _parse_id(text: str) -> str:
    try:
        return msgspec.convert(text, ClerkId)
    except msgspec.ValidationError:
        raise UnknownUser("This is not a Clerk ID.") from None


def _create_response(body: Struct) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


_decoder = msgspec.json.Decoder(_ResolveRequest)
