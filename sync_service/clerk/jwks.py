"""Public keys of session tokens: the key in CLERK_JWT_KEY, or the key set (JWKS) of the instance."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeAlias

import httpx2
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sync_service.clerk.backend_api import build_api_url, build_auth_headers
from sync_service.clerk.key_set import parse_key_set
from sync_service.errors import ClerkUnavailable

log = structlog.get_logger()

# Stale-while-revalidate, with the lifetime that Clerk's SDK uses: a verification with an older set does not wait; the
# new set is fetched in the background.
FRESH_SECONDS = 300

# An unknown key ID may belong to a new key, or the sender may have invented it. The set is fetched again for it, but at
# most twice a minute, so that such tokens cause no further requests.
MAX_FETCHES = 2
FETCH_WINDOW_SECONDS = 60

FETCH_TIMEOUT = 2.5

# Exponential backoff between two fetches while there is no key: each pause is twice the previous one.
MIN_PAUSE, MAX_PAUSE = 0.25, 16.0


class StaticKey:
    """The key in `CLERK_JWT_KEY`. It verifies all tokens, with any key ID, and needs no network."""

    def __init__(self, pem: str) -> None:
        """Load the PEM of `Settings.clerk_jwt_key`."""
        key = load_pem_public_key(pem.encode())
        assert isinstance(key, RSAPublicKey)  # noqa: S101  the parser of the setting has checked it
        self._key = key

    def get_cached(self, _: str | None) -> RSAPublicKey | None:
        """Return the key."""
        return self._key

    async def get(self, _: str | None) -> RSAPublicKey | None:
        """Return the key."""
        return self._key

    async def refresh(self) -> None:
        """Return at once: a configured key has no lifetime."""

    @property
    def age(self) -> None:
        """None: a configured key has no age."""


class JwksCache:
    """Cache of the key set (JWKS) at a URL, by key ID."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        url: str,
        headers: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without keys. The first lookup fetches the set."""
        self._client = client
        self._url = url
        self._headers = dict(headers)
        self._clock = clock
        self._keys: dict[str, RSAPublicKey] = {}
        self._fresh_until = 0.0
        self._fetches: deque[float] = deque(maxlen=MAX_FETCHES)
        self._fetching: asyncio.Task[None] | None = None
        self._pause = MIN_PAUSE
        self._paused_until = 0.0

    @property
    def age(self) -> float | None:
        """The seconds since the set was fetched; None without a set."""
        return self._clock() - self._fresh_until + FRESH_SECONDS if self._keys else None

    def get_cached(self, kid: str | None) -> RSAPublicKey | None:
        """Return a cached key. If the set is stale, start a fetch in the background."""
        key = self._keys.get(kid or "")
        if key and self._clock() > self._fresh_until and self._can_fetch():
            self._start_fetch()
        return key

    async def get(self, kid: str | None) -> RSAPublicKey | None:
        """Return a key; fetch the set if the key is not in it. Raises `ClerkUnavailable` while there is no key set."""
        if not kid:
            return None
        if kid not in self._keys and self._can_fetch():
            await self.refresh()
        if not self._keys:
            seconds = max(1, round(self._paused_until - self._clock()))
            raise ClerkUnavailable("no_jwks", retry_after_seconds=seconds)
        return self._keys.get(kid)

    async def refresh(self) -> None:
        """Fetch the set. If the fetch fails, the cached keys stay.

        Single flight: concurrent callers wait for the same fetch.
        """
        # Without the shield, the cancellation of one caller would cancel the fetch for all of them.
        await asyncio.shield(self._start_fetch())

    def _can_fetch(self) -> bool:
        if self._fetching:
            return True  # the caller joins this fetch
        now = self._clock()
        if not self._keys:
            return now >= self._paused_until
        return len(self._fetches) < MAX_FETCHES or now - self._fetches[0] >= FETCH_WINDOW_SECONDS

    def _start_fetch(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetches.append(self._clock())
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                response = await self._client.get(self._url, headers=self._headers)
            response.raise_for_status()
            keys = parse_key_set(response.json())
        except (httpx2.HTTPError, TimeoutError, ValueError, RecursionError) as error:
            log.warning("jwks_fetch_failed", reason=type(error).__name__, kept=len(self._keys))
            self._paused_until = self._clock() + self._pause
            self._pause = min(self._pause * 2, MAX_PAUSE)
        else:
            self._keys = keys
            self._fresh_until = self._clock() + FRESH_SECONDS
            self._pause = MIN_PAUSE
        finally:
            self._fetching = None


KeySource: TypeAlias = StaticKey | JwksCache


def key_source_from(
    client: httpx2.AsyncClient, *, jwt_key: str | None, jwks_url: str | None, api_url: str, secret_key: str | None
) -> KeySource | None:
    """Return the source of keys, from the most specific setting; None if no setting gives one."""
    if jwt_key:
        return StaticKey(jwt_key)
    if jwks_url:
        return JwksCache(client, jwks_url, {})
    if secret_key:
        return JwksCache(client, build_api_url(api_url, "/jwks"), build_auth_headers(secret_key))
    return None
