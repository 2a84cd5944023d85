"""GET /users/{clerk_id}, POST /users/resolve: from Clerk's IDs to the app's own rows, for the app's backend."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct
from starlette.requests import Request
from starlette.responses import Response

from sync_service.clerk.values import ClerkId
from sync_service.errors import BadRequest, Unavailable, UnknownUser
from sync_service.postgres.logins import resolve
from sync_service.sync.apply import Applier
from sync_service.sync.asking import Questions
from sync_service.web.callers import Callers
from sync_service.web.metrics import Metrics
from sync_service.web.sync import counted
from sync_service.web.webhooks import read_body

ANSWER_SECONDS = 9

MOST_IDS = 1000


class _Wanted(Struct):
    clerk_ids: Annotated[list[ClerkId], Meta(max_length=MOST_IDS)]


class _Resolved(Struct):
    users: dict[str, Raw]
    missing: list[str]
    deleted: list[str]


class _User(Struct):
    user: Raw


class Users:
    """The two endpoints, with what they need."""

    def __init__(self, callers: Callers, questions: Questions, applier: Applier, metrics: Metrics) -> None:
        self._callers = callers
        self._questions = questions
        self._pool = applier.pool
        self._statements = applier.statements
        self._metrics = metrics

    async def one(self, request: Request) -> Response:
        """Answer one user's row; Clerk is not asked."""
        with counted(self._metrics.lookups, "look-up"):
            self._callers.backend(request)
            clerk_id = _known_by(request.path_params["clerk_id"])
            async with _in_time():
                found = await self._questions.look(clerk_id)
            if found.row is None:
                raise UnknownUser("There is no row of this user.")
        self._metrics.lookups.labels("found").inc()
        return _json(_User(Raw(found.row.encode())))

    async def resolve(self, request: Request) -> Response:
        """Answer the app's own keys of up to 1,000 users."""
        with counted(self._metrics.lookups, "look-up"):
            self._callers.backend(request)
            wanted = _read_wanted(await read_body(request))
            async with _in_time():
                records = await resolve(self._pool, self._statements, wanted)
        found = _Resolved({}, [], [])
        for clerk_id, key, deleted in records:
            if deleted:
                found.deleted.append(clerk_id)
            elif key is None:
                found.missing.append(clerk_id)
            else:
                found.users[clerk_id] = Raw(key.encode())
        self._metrics.lookups.labels("resolved").inc()
        return _json(found)


@contextlib.asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            yield
    except TimeoutError:
        raise Unavailable("no answer from the database in time") from None


def _known_by(given: str) -> str:
    try:
        return msgspec.convert(given, ClerkId)
    except msgspec.ValidationError:
        raise UnknownUser("That is not an ID of Clerk.") from None


def _read_wanted(body: bytes) -> list[str]:
    """Return the IDs, each once."""
    try:
        return list(dict.fromkeys(_wanted.decode(body).clerk_ids))
    except msgspec.ValidationError as error:
        raise BadRequest(f'The body is {{"clerk_ids": […]}} with at most {MOST_IDS} of them: {error}.') from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not JSON in UTF-8.") from None


def _json(answer: Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


_wanted = msgspec.json.Decoder(_Wanted)
