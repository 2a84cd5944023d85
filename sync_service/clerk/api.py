"""Client of Clerk's Backend API. It only reads: one user by ID, and the key set.

https://clerk.com/docs/reference/backend-api ; Clerk's own SDK is not used: it rejects a user because of one unknown
value, ignores the status 429, and retries for up to an hour.
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
from sync_service.clerk.values import UNREADABLE_JSON, Snapshot, User, Version
from sync_service.errors import ClerkRefused, ClerkUnavailable

log = structlog.get_logger()

# The newest version of the API. Without this header, the default version of the instance decides the format of a user.
VERSION = "2026-05-12"

# A login waits for this request. Its response must be sent within 10 s, including all other steps.
ASK_SECONDS = 3.5

REFUSED_SECONDS = 10
LONGEST_PAUSE = 300

# The characters of Clerk's IDs. Any other text is never put into a URL.
_ID = re.compile(r"[\w-]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Missing:
    """Status 404. `told_by_clerk` is false if the body is not Clerk's: then CLERK_API_URL may be wrong."""

    told_by_clerk: bool


class ClerkApi:
    """Sends requests with the operator's secret key, behind a circuit breaker."""

    def __init__(
        self, client: httpx2.AsyncClient, url: str, secret_key: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Use the API at `url`. A final /v1, which some of Clerk's SDKs expect, is removed."""
        self._client = client
        self._url = url.removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {secret_key}", "Clerk-API-Version": VERSION}
        self._clock = clock
        self._breaker = Breaker()
        self._instances: frozenset[str] | None = None

    def check(self) -> None:
        """Raise `ClerkUnavailable` while the circuit breaker is open."""
        seconds = self._breaker.seconds_open(self._clock())
        if seconds:
            raise ClerkUnavailable("circuit_open", retry_after_seconds=math.ceil(seconds))

    async def user(self, clerk_id: str) -> Snapshot | Missing:
        """Return the current user from Clerk. Raises `ClerkUnavailable`."""
        if not _ID.fullmatch(clerk_id):
            return Missing(told_by_clerk=False)
        response = await self._get(f"/v1/users/{clerk_id}")
        if response.status_code == 404:
            return Missing(_is_clerk_error(response.content))
        try:
            user = _user_decoder.decode(response.content)
        except UNREADABLE_JSON:
            raise ClerkUnavailable("unreadable_user") from None
        if user.id != clerk_id:
            raise ClerkUnavailable("user_id_mismatch")
        return Snapshot(user, Version.fetched(user), response.content)

    async def instances(self) -> frozenset[str]:
        """Return the instances of the secret key, from the key IDs of its key set; empty if the key set names none.

        Raises `ClerkUnavailable`.
        """
        if self._instances is None:
            response = await self._get("/v1/jwks")
            try:
                kids = {key.kid for key in _jwks_decoder.decode(response.content).keys}
            except UNREADABLE_JSON:
                kids = set()
            self._instances = frozenset(kid for kid in kids if kid.startswith("ins_"))
        return self._instances

    async def _get(self, path: str) -> httpx2.Response:
        """Return a response with status 200 or 404. Raises `ClerkUnavailable` for any other result."""
        self.check()
        self._breaker.asks(self._clock())
        try:
            async with asyncio.timeout(ASK_SECONDS):
                response = await self._send(path)
        except (httpx2.HTTPError, TimeoutError) as error:
            self._breaker.failed(self._clock())
            raise ClerkUnavailable(type(error).__name__) from error
        status = response.status_code
        if status in {200, 404}:
            self._breaker.succeeded()
            return response
        if status == 429:
            pause = _parse_retry_after(response)
            self._breaker.failed(self._clock(), pause)
            raise ClerkUnavailable("429", retry_after_seconds=pause)
        if status in {401, 403}:
            self._breaker.failed(self._clock(), REFUSED_SECONDS)
            log.error("clerk_auth_failed", setting="CLERK_SECRET_KEY", status=status)
            raise ClerkRefused(str(status), retry_after_seconds=REFUSED_SECONDS)
        self._breaker.failed(self._clock())
        raise ClerkUnavailable(str(status))

    async def _send(self, path: str) -> httpx2.Response:
        try:
            return await self._client.get(self._url + path, headers=self._headers)
        except httpx2.TimeoutException:
            raise
        except httpx2.TransportError:
            # The pool may have used a dead connection, so the request is sent once more on another one.
            return await self._client.get(self._url + path, headers=self._headers)


class _Key(msgspec.Struct):
    kid: str = ""


class _Jwks(msgspec.Struct):
    keys: list[_Key]


class _Errors(msgspec.Struct):
    errors: list[dict[str, object]]


_user_decoder = msgspec.json.Decoder(User)
_jwks_decoder = msgspec.json.Decoder(_Jwks)
_errors_decoder = msgspec.json.Decoder(_Errors)


def _is_clerk_error(body: bytes) -> bool:
    try:
        _errors_decoder.decode(body)
    except UNREADABLE_JSON:
        return False
    return True


def _parse_retry_after(response: httpx2.Response) -> int:
    """Return the seconds of `Retry-After`, from 1 to `LONGEST_PAUSE`; 5 if it is missing or not a number."""
    seconds = response.headers.get("retry-after", "")
    if not re.fullmatch("[0-9]{1,9}", seconds):
        return 5
    return max(1, min(int(seconds), LONGEST_PAUSE))
