"""Clerk's Backend API: the only place that builds its URLs and sends the secret key. All requests are GET.

https://clerk.com/docs/reference/backend-api ; Clerk's own SDK is not used: it rejects a user for one unknown value,
ignores 429, and retries for up to an hour.
"""

import asyncio
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec
import structlog

from sync_service.clerk.change import Snapshot, Version
from sync_service.clerk.circuit_breaker import CircuitBreaker
from sync_service.clerk.json_repair import parse_tolerantly
from sync_service.clerk.resource import UNREADABLE_JSON
from sync_service.clerk.user import decode_user
from sync_service.errors import ClerkAuthError, ClerkRequestRefused, ClerkUnavailable, UnconfirmedDeletion

log = structlog.get_logger()

# The newest version of the API. Without the header, a setting of the instance would decide the shape of a user.
API_VERSION = "2026-05-12"

# Seconds. A login waits for the response and is answered within 10 s, together with all other steps.
REQUEST_TIMEOUT = 3.5
# Seconds for each request of the doctor.
LOOKUP_TIMEOUT = 5

AUTH_ERROR_PAUSE = 10
DEFAULT_RETRY_AFTER = 5
MAX_RETRY_AFTER = 300

# The statuses that answer a request: for one user, for a list of users, which may have wrong parameters, and for a list
# of other objects, which Clerk refuses in an instance without this feature.
USER_STATUSES = frozenset({200, 404})
LIST_STATUSES = frozenset({200, 400, 404, 422})
RELATED_STATUSES = LIST_STATUSES | {403}

QueryParameters = Mapping[str, str | int | Sequence[str]]

# The characters of Clerk's IDs. Any other text is not put into a URL.
_ID = re.compile(r"[\w-]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class UserNotFound:
    """Clerk does not know the user. `confirmed_by_clerk` is false if no request was made, because the ID is none."""

    confirmed_by_clerk: bool


@dataclass(frozen=True, slots=True)
class InstanceLookup:
    """The instances that a key set names. `status` is None without a response; `error` then names its class."""

    instances: frozenset[str] = frozenset()
    status: int | None = None
    error: str = ""


def build_api_url(base_url: str, path: str) -> str:
    """Return the URL of a route; the `/v1` at the end of a base URL, as some of Clerk's SDKs have it, is optional."""
    return f"{base_url.removesuffix('/v1')}/v1{path}"


def build_auth_headers(secret_key: str) -> dict[str, str]:
    """Return the headers of a request with the secret key."""
    return {"Authorization": f"Bearer {secret_key}", "Clerk-API-Version": API_VERSION}


class ClerkClient:
    """Requests with the owner's key, through one connection pool and one circuit breaker."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        base_url: str,
        secret_key: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        self._client = client
        self._base_url = base_url
        self._headers = build_auth_headers(secret_key)
        self._clock = clock
        self._timeout = timeout
        self._breaker = CircuitBreaker()
        self._instances: frozenset[str] = frozenset()

    @property
    def pause(self) -> float:
        """The seconds until the circuit breaker lets a request through; 0 means now."""
        return self._breaker.retry_after(self._clock())

    def ensure_available(self) -> None:
        """Raise `ClerkUnavailable` while the circuit breaker is open."""
        if seconds := self.pause:
            raise ClerkUnavailable("circuit breaker open", retry_after_seconds=math.ceil(seconds))

    async def get_user(self, clerk_id: str) -> Snapshot | UserNotFound:
        """Return the user as Clerk has it now. Raises `ClerkUnavailable`, also for a 404 of another server."""
        if not _ID.fullmatch(clerk_id):
            return UserNotFound(confirmed_by_clerk=False)
        response = await self._get(f"/users/{clerk_id}")
        if response.status_code == 404:
            if not _is_user_not_found(response.content):
                raise UnconfirmedDeletion("the 404 is not Clerk's; check CLERK_API_URL")
            return UserNotFound(confirmed_by_clerk=True)
        try:
            (user, data), replaced = parse_tolerantly(decode_user, response.content)
        except UNREADABLE_JSON:
            raise ClerkUnavailable("unreadable_user") from None
        if user.id != clerk_id:
            raise ClerkUnavailable("response about another user")
        if replaced:
            log.warning("value_replaced", fields=replaced)
        return Snapshot(user, Version.from_api(user), data)

    async def get_instances(self) -> frozenset[str]:
        """Return the instances of the key, as Clerk's key set names them; empty if it names none or is unreadable.

        Raises `ClerkUnavailable`.
        """
        if not self._instances:  # an empty answer is not kept
            response = await self._get("/jwks")
            self._instances = _read_instances(response.content)
        return self._instances

    async def list_users(self, parameters: QueryParameters) -> bytes:
        """Return the JSON of a list of users. Raises `ClerkRequestRefused` for wrong parameters."""
        return await self._list("/users", parameters, LIST_STATUSES)

    async def list_related(self, path: str, parameters: QueryParameters) -> bytes:
        """Return the JSON of a list of organizations or memberships. Raises `ClerkRequestRefused`."""
        return await self._list(path, parameters, RELATED_STATUSES)

    async def _list(self, path: str, parameters: QueryParameters, answered: frozenset[int]) -> bytes:
        response = await self._get(path, parameters, answered)
        if response.status_code != 200:
            raise ClerkRequestRefused(str(response.status_code))
        return response.content

    async def count_users(self) -> int | None:
        """Return the number of users, or None if the response has none. Raises `ClerkUnavailable`."""
        response = await self._get("/users/count")
        try:
            return _count.decode(response.content).total_count
        except UNREADABLE_JSON:
            return None

    async def _get(
        self, path: str, parameters: QueryParameters | None = None, answered: frozenset[int] = USER_STATUSES
    ) -> httpx2.Response:
        """Return a response with one of the statuses in `answered`."""
        self.ensure_available()
        self._breaker.record_request(self._clock())
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._send(build_api_url(self._base_url, path), parameters)
        except (httpx2.HTTPError, TimeoutError) as error:
            self._breaker.record_failure(self._clock())
            raise ClerkUnavailable(type(error).__name__) from error
        status = response.status_code
        if status in answered:
            self._breaker.record_success()
            return response
        if status == 429:
            pause = _read_retry_after(response)
            self._breaker.record_failure(self._clock(), pause)
            raise ClerkUnavailable("429", retry_after_seconds=pause)
        if status in {401, 403}:
            self._breaker.record_failure(self._clock(), AUTH_ERROR_PAUSE)
            log.error("clerk_auth_failed", setting="CLERK_SECRET_KEY", status=status)
            raise ClerkAuthError(str(status), retry_after_seconds=AUTH_ERROR_PAUSE)
        self._breaker.record_failure(self._clock())
        raise ClerkUnavailable(str(status))

    async def _send(self, url: str, parameters: QueryParameters | None) -> httpx2.Response:
        try:
            return await self._client.get(url, params=parameters, headers=self._headers)
        except httpx2.TimeoutException:
            raise
        except httpx2.TransportError:
            # A pooled connection that the server has closed meanwhile.
            return await self._client.get(url, params=parameters, headers=self._headers)


async def look_up_key_instance(base_url: str, secret_key: str) -> InstanceLookup:
    """Return the instance of a secret key, for the doctor."""
    return await _look_up_instance(build_api_url(base_url, "/jwks"), build_auth_headers(secret_key))


async def look_up_host_instance(jwks_url: str) -> InstanceLookup:
    """Return the instance whose session tokens the keys at this URL sign, for the doctor."""
    return await _look_up_instance(jwks_url, {})


async def find_known_users(base_url: str, secret_key: str, clerk_ids: Sequence[str]) -> frozenset[str] | None:
    """Return those of up to 100 users that the key's instance has; None if Clerk does not respond."""
    parameters = {"user_id": list(clerk_ids), "limit": len(clerk_ids)}
    url = build_api_url(base_url, "/users")
    response = await _get_once(url, build_auth_headers(secret_key), parameters)
    if isinstance(response, InstanceLookup):
        return None
    try:
        users, _ = parse_tolerantly(_users.decode, response.content)
        return frozenset(user.id for user in users)
    except UNREADABLE_JSON:
        return None


async def _look_up_instance(url: str, headers: dict[str, str]) -> InstanceLookup:
    response = await _get_once(url, headers, {})
    if isinstance(response, InstanceLookup):
        return response
    return InstanceLookup(_read_instances(response.content), response.status_code)


async def _get_once(url: str, headers: dict[str, str], parameters: dict[str, Any]) -> httpx2.Response | InstanceLookup:
    """Return a successful response, or a lookup without instances that has its status or its error."""
    try:
        async with httpx2.AsyncClient(timeout=LOOKUP_TIMEOUT, headers=headers) as client:
            response = await client.get(url, params=parameters)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return InstanceLookup(error=type(error).__name__)
    return response if response.is_success else InstanceLookup(status=response.status_code)


class _Key(msgspec.Struct):
    kid: str = ""


class _KeySet(msgspec.Struct):
    keys: list[_Key]


class _Error(msgspec.Struct):
    code: str


class _Errors(msgspec.Struct):
    errors: list[_Error]


class _Count(msgspec.Struct):
    total_count: int


class _Identified(msgspec.Struct):
    id: str


_users = msgspec.json.Decoder(list[_Identified])
_count = msgspec.json.Decoder(_Count)
_key_set = msgspec.json.Decoder(_KeySet)
_errors = msgspec.json.Decoder(_Errors)


def _read_instances(body: bytes) -> frozenset[str]:
    """Return the instances in a key set: Clerk's `kid` is the instance's ID. Empty for an unreadable key set."""
    try:
        kids = {key.kid for key in _key_set.decode(body).keys}
    except UNREADABLE_JSON:
        return frozenset()
    return frozenset(kid for kid in kids if kid.startswith("ins_"))


def _is_user_not_found(body: bytes) -> bool:
    try:
        errors = _errors.decode(body).errors
    except UNREADABLE_JSON:
        return False
    return any(error.code == "resource_not_found" for error in errors)


def _read_retry_after(response: httpx2.Response) -> int:
    value = response.headers.get("retry-after", "")
    if not re.fullmatch("[0-9]{1,9}", value):
        return DEFAULT_RETRY_AFTER
    return max(1, min(int(value), MAX_RETRY_AFTER))
