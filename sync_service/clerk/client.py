"""Requests to Clerk's Backend API through one circuit breaker. All requests are GET.

Clerk's own SDK is not used: it rejects a user for one unknown value, ignores 429, and retries for up to an hour.
"""

import asyncio
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx2
import structlog

from sync_service.clerk.backend_api import build_api_url, build_auth_headers
from sync_service.clerk.change import Snapshot
from sync_service.clerk.circuit_breaker import CircuitBreaker
from sync_service.clerk.key_set import read_instances
from sync_service.clerk.responses import is_user_not_found, parse_count, parse_retry_after, parse_user
from sync_service.errors import ClerkAuthError, ClerkRequestRefused, ClerkUnavailable, UnconfirmedDeletion

log = structlog.get_logger()

# Seconds. A login waits for the response and is answered within 10 s, together with all other steps.
REQUEST_TIMEOUT = 3.5

AUTH_ERROR_PAUSE = 10

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
            if not is_user_not_found(response.content):
                raise UnconfirmedDeletion("the 404 is not Clerk's; check CLERK_API_URL")
            return UserNotFound(confirmed_by_clerk=True)
        user, replaced = parse_user(response.content, clerk_id)
        if replaced:
            log.warning("value_replaced", fields=replaced)
        return user

    async def get_instances(self) -> frozenset[str]:
        """Return the instances of the key, as Clerk's key set names them; empty if it names none or is unreadable.

        Raises `ClerkUnavailable`.
        """
        if not self._instances:  # an empty answer is not kept
            response = await self._get("/jwks")
            self._instances = read_instances(response.content)
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
        return parse_count(response.content)

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
            pause = parse_retry_after(response.headers.get("retry-after", ""))
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
