"""Clerk's Backend API, as far as it is asked: one user by ID. It is only ever read.

https://clerk.com/docs/reference/backend-api ; Clerk's own SDK is not used: it refuses a user for one value that it does
not know, does not heed 429, and tries again for up to an hour.
"""

import asyncio
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx2
import msgspec
import structlog

from sync_service.clerk.breaker import Breaker
from sync_service.clerk.values import Snapshot, User, Version
from sync_service.errors import ClerkRefused, ClerkUnavailable

log = structlog.get_logger()

# The newest version of the API. Without it, the instance's own default would decide the shape of a user.
VERSION = "2026-05-12"

# Somebody waits for it, and has an answer within 10 s, whatever else takes time.
ASK_SECONDS = 3.5

REFUSED_SECONDS = 10
LONGEST_PAUSE = 300

# What an ID of Clerk is made of. Anything else is not put into an address.
_ID = re.compile(r"[\w-]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Missing:
    """404. `told_by_clerk` is false for one that another server may have made: the address may be wrong."""

    told_by_clerk: bool


class ClerkApi:
    """Asks with the owner's key, through one pool of connections."""

    def __init__(
        self, client: httpx2.AsyncClient, url: str, secret_key: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Ask at `url`, which has no /v1 in it; one that has, as in some of Clerk's SDKs, will do."""
        self._client = client
        self._url = url.removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {secret_key}", "Clerk-API-Version": VERSION}
        self._clock = clock
        self._breaker = Breaker()
        self._instances: frozenset[str] | None = None

    def check(self) -> None:
        """Raise `ClerkUnavailable` if Clerk is not worth asking now."""
        seconds = self._breaker.seconds_open(self._clock())
        if seconds:
            raise ClerkUnavailable("not asked: it has failed of late", retry_after_seconds=math.ceil(seconds))

    async def user(self, clerk_id: str) -> Snapshot | Missing:
        """Return the user as Clerk has it now. Raises `ClerkUnavailable`."""
        if not _ID.fullmatch(clerk_id):
            return Missing(told_by_clerk=False)
        answer = await self._get(f"/v1/users/{clerk_id}")
        if answer.status_code == 404:
            return Missing(_is_an_error_of_clerk(answer.content))
        try:
            user = _user.decode(answer.content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise ClerkUnavailable("unreadable_user") from None
        if user.id != clerk_id:
            raise ClerkUnavailable("another user than asked for")
        return Snapshot(user, Version.fetched(user), answer.content)

    async def instances(self) -> frozenset[str]:
        """Return the instances that the key is of, as far as Clerk's key set tells; empty if it does not.

        Raises `ClerkUnavailable`.
        """
        if self._instances is None:
            answer = await self._get("/v1/jwks")
            try:
                kids = {key.kid for key in _key_set.decode(answer.content).keys}
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                kids = set()
            self._instances = frozenset(kid for kid in kids if kid.startswith("ins_"))
        return self._instances

    async def _get(self, path: str) -> httpx2.Response:
        """Return an answer of 200 or 404."""
        self.check()
        self._breaker.asks(self._clock())
        try:
            async with asyncio.timeout(ASK_SECONDS):
                answer = await self._send(path)
        except (httpx2.HTTPError, TimeoutError) as error:
            self._breaker.failed(self._clock())
            raise ClerkUnavailable(type(error).__name__) from error
        status = answer.status_code
        if status in {200, 404}:
            self._breaker.succeeded()
            return answer
        if status == 429:
            pause = _retry_after(answer)
            self._breaker.failed(self._clock(), pause)
            raise ClerkUnavailable("429", retry_after_seconds=pause)
        if status in {401, 403}:
            self._breaker.failed(self._clock(), REFUSED_SECONDS)
            log.error("Clerk refuses the key", setting="CLERK_SECRET_KEY", status=status)
            raise ClerkRefused(str(status), retry_after_seconds=REFUSED_SECONDS)
        self._breaker.failed(self._clock())
        raise ClerkUnavailable(str(status))

    async def _send(self, path: str) -> httpx2.Response:
        try:
            return await self._client.get(self._url + path, headers=self._headers)
        except httpx2.TimeoutException:
            raise
        except httpx2.TransportError:
            # A connection of the pool that had died meanwhile.
            return await self._client.get(self._url + path, headers=self._headers)


class _Key(msgspec.Struct):
    kid: str = ""


class _KeySet(msgspec.Struct):
    keys: list[_Key]


class _Errors(msgspec.Struct):
    errors: list[dict[str, object]]


_user = msgspec.json.Decoder(User)
_key_set = msgspec.json.Decoder(_KeySet)
_errors = msgspec.json.Decoder(_Errors)


def _is_an_error_of_clerk(body: bytes) -> bool:
    try:
        _errors.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _retry_after(answer: httpx2.Response) -> int:
    given = answer.headers.get("retry-after", "")
    return max(1, min(int(given), LONGEST_PAUSE)) if re.fullmatch("[0-9]{1,9}", given) else 5
