"""POST /sync: the row of who signs in, to be called at every login."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import structlog
from msgspec import Raw, Struct
from prometheus_client import Counter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sync_service.clerk.values import ClerkId, Snapshot, User, Version
from sync_service.errors import (
    BadRequest,
    ClerkRefused,
    ClerkUnavailable,
    DatabaseFault,
    Refusal,
    Unavailable,
    WrongUser,
)
from sync_service.sync.login import Logins
from sync_service.web.callers import Callers
from sync_service.web.metrics import Metrics
from sync_service.web.webhooks import read_body

log = structlog.get_logger()

# An answer comes within 10 s, whatever takes the time: the key set, the body, the database, Clerk.
ANSWER_SECONDS = 9


class _Body(Struct):
    user_id: ClerkId | None = None
    profile: dict[str, Any] | None = None


class _Answer(Struct):
    outcome: str
    user: Raw


class Sync:
    """The endpoint, with what it needs."""

    def __init__(self, callers: Callers, logins: Logins, metrics: Metrics) -> None:
        self._callers = callers
        self._logins = logins
        self._metrics = metrics

    async def answer(self, request: Request) -> Response:
        """Answer one login."""
        if request.method != "POST":  # where CORS is on, the route takes OPTIONS too
            raise HTTPException(405, headers={"Allow": "POST"})
        with counted(self._metrics.logins, "login"):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    outcome, answer = await self._sync(request)
            except TimeoutError:
                raise Unavailable("no answer in time") from None
        self._metrics.logins.labels(outcome).inc()
        # The usual ones are counted; a line for each would cost more than the look.
        (log.debug if outcome == "current" else log.info)("login", outcome=outcome)
        return answer

    async def _sync(self, request: Request) -> tuple[str, Response]:
        session = await self._callers.caller(request)
        body = await _body(request)
        named = {value.decode("latin-1") for name, value in request.scope["headers"] if name == b"x-clerk-user-id"}
        named |= {body.user_id} if body.user_id else set()
        refresh = False
        if request.scope["query_string"]:
            named.update(request.query_params.getlist("user_id"))
            refresh = _refresh(request)
        if session:
            if named - {session.clerk_id}:
                raise WrongUser("A session token speaks for its own user, and another one is named.")
            login = await self._logins.sync(session.clerk_id, token_instance=session.instance_id, refresh=refresh)
        else:
            clerk_id = _only(named)
            login = await self._logins.sync(clerk_id, refresh=refresh, profile=_profile(clerk_id, body.profile))
        content = msgspec.json.encode(_Answer(login.outcome, Raw(login.row.encode())))
        return login.outcome, Response(content, media_type="application/json")


@contextlib.contextmanager
def counted(counter: Counter, what: str) -> Iterator[None]:
    """Count and tell what is refused, by its code."""
    try:
        yield
    except Refusal as refusal:
        counter.labels(refusal.code).inc()
        log.info(what, refused=refusal.code, detail=str(refusal))
        raise
    except ClerkUnavailable as error:
        counter.labels("clerk_unavailable").inc()
        hint = "CLERK_SECRET_KEY is refused, or of another instance" if isinstance(error, ClerkRefused) else None
        log.warning(what, refused="clerk_unavailable", reason=error.reason, hint=hint)
        raise
    except DatabaseFault:
        counter.labels("unavailable").inc()
        raise


async def _body(request: Request) -> _Body:
    if not _HAS_BODY.intersection(name for name, _ in request.scope["headers"]):
        return _Body()  # as most come
    content = await read_body(request)
    if not content.strip():
        return _Body()
    try:
        return _read.decode(content)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The body is not what this route takes: {error}.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not JSON in UTF-8.") from None


def _refresh(request: Request) -> bool:
    given = request.query_params.get("refresh", "false").lower()
    if given not in {"true", "false", "1", "0", ""}:
        raise BadRequest("refresh is true or false.")
    return given in {"true", "1"}


def _only(named: set[str]) -> str:
    """Return the one user whom the backend names."""
    if len(named) != 1:
        raise BadRequest("The app's backend names one user, by user_id in the body or the header X-Clerk-User-Id.")
    try:
        return msgspec.convert(named.pop(), ClerkId)
    except msgspec.ValidationError:
        raise BadRequest("user_id is not an ID of Clerk.") from None


def _profile(clerk_id: str, given: dict[str, Any] | None) -> Snapshot | None:
    """Return what the app says of the user, as Clerk would say it, but older than anything that Clerk will ever say."""
    if given is None:
        return None
    if given.get("id", clerk_id) != clerk_id:
        raise BadRequest("The profile is another user's.")
    updated_at = given.get("updated_at") or int(time.time() * 1000)
    said = given | {"id": clerk_id, "updated_at": updated_at}
    try:
        return Snapshot(msgspec.convert(said, User), Version(0, b""), msgspec.json.encode(said))
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadRequest(f"The profile is not made of Clerk's fields: {error}.") from None


_HAS_BODY = frozenset({b"content-length", b"transfer-encoding"})

_read = msgspec.json.Decoder(_Body)
