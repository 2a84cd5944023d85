"""The public keys that sign session tokens: the one that the owner gave, or the instance's key set.

https://clerk.com/docs/guides/sessions/manual-jwt-verification
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import httpx2
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import RSAAlgorithm

from sync_service.errors import ClerkUnavailable
from sync_service.settings import Settings
from sync_service.spellings import frontend_api

log = structlog.get_logger()

# As Clerk's own SDK: what is older is fetched anew, behind the answer.
FRESH_SECONDS = 300

# An ID of a key that is not in the set may be a new key's, or anybody's invention: the set is fetched for it, but not
# more than twice in a minute, whatever comes.
MOST_FETCHES = 2
WINDOW_SECONDS = 60

FETCH_SECONDS = 2.5

# Between two attempts while there is no key at all: each pause twice the one before it.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 16.0

SMALLEST_KEY_BITS = 2048


class GivenKey:
    """`CLERK_JWT_KEY`: the key of one instance, whatever a token calls it. It needs no network."""

    def __init__(self, pem: str) -> None:
        """Take the key as `Settings` has it."""
        key = load_pem_public_key(pem.encode())
        assert isinstance(key, RSAPublicKey)  # noqa: S101  the settings have seen to it
        self._key = key

    def known(self, _: str | None) -> RSAPublicKey | None:
        """Return the key."""
        return self._key

    async def find(self, _: str | None) -> RSAPublicKey | None:
        """Return the key."""
        return self._key

    async def refresh(self) -> None:
        """Nothing becomes old here."""


class KeySet:
    """The key set at an address, by the keys' IDs."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        url: str,
        headers: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Fetch nothing yet."""
        self._client = client
        self._url = url
        self._headers = dict(headers)
        self._clock = clock
        self._keys: dict[str, RSAPublicKey] = {}
        self._fresh_until = 0.0
        self._fetches: deque[float] = deque(maxlen=MOST_FETCHES)
        self._fetching: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE
        self._paused_until = 0.0

    def known(self, kid: str | None) -> RSAPublicKey | None:
        """Return a key that is here; if it is an old one, the set is fetched anew behind the answer."""
        key = self._keys.get(kid or "")
        if key and self._clock() > self._fresh_until and self._may_fetch():
            self._start()
        return key

    async def find(self, kid: str | None) -> RSAPublicKey | None:
        """Return a key, fetching the set if it is not in it. Raises `ClerkUnavailable` while there is no set at all."""
        if not kid:
            return None
        if kid not in self._keys and self._may_fetch():
            await self.refresh()
        if not self._keys:
            raise ClerkUnavailable("no key set", retry_after_seconds=max(1, round(self._paused_until - self._clock())))
        return self._keys.get(kid)

    async def refresh(self) -> None:
        """Fetch the set, or wait for whoever does; if it cannot be had, what is there stays."""
        # Shielded: others wait for it too, and a caller may leave.
        await asyncio.shield(self._start())

    def _may_fetch(self) -> bool:
        if self._fetching:
            return True  # to wait for it
        now = self._clock()
        if not self._keys:
            return now >= self._paused_until
        return len(self._fetches) < MOST_FETCHES or now - self._fetches[0] >= WINDOW_SECONDS

    def _start(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetches.append(self._clock())
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                answer = await self._client.get(self._url, headers=self._headers)
            answer.raise_for_status()
            keys = _keys_of(answer.json())
        except (httpx2.HTTPError, TimeoutError, ValueError, RecursionError) as error:
            log.warning("key set not fetched", reason=type(error).__name__, kept=len(self._keys))
            self._paused_until = self._clock() + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        else:
            self._keys = keys
            self._fresh_until = self._clock() + FRESH_SECONDS
            self._pause = FIRST_PAUSE
        finally:
            self._fetching = None


Keys: TypeAlias = GivenKey | KeySet


def keys_of(settings: Settings, client: httpx2.AsyncClient) -> Keys | None:
    """Return the keys that the settings lead to, the most particular setting first; None where they lead to none."""
    if settings.clerk_jwt_key:
        return GivenKey(settings.clerk_jwt_key)
    issuer = issuer_of(settings)
    if settings.clerk_jwks_url or issuer:
        return KeySet(client, settings.clerk_jwks_url or f"{issuer}/.well-known/jwks.json", {})
    if settings.clerk_secret_key:
        bearer = {"Authorization": f"Bearer {settings.clerk_secret_key}"}
        return KeySet(client, f"{settings.clerk_api_url.removesuffix('/v1')}/v1/jwks", bearer)
    return None


def issuer_of(settings: Settings) -> str | None:
    """Return who must have issued a token; None where the key alone says so, being one instance's."""
    if settings.clerk_issuer:
        return settings.clerk_issuer
    return frontend_api(settings.clerk_publishable_key) if settings.clerk_publishable_key else None


def _keys_of(key_set: Any) -> dict[str, RSAPublicKey]:
    """Return the RSA keys for signatures. Raises `ValueError` for what is no key set."""
    if not isinstance(key_set, dict) or not isinstance(key_set.get("keys"), list):
        raise ValueError("no key set")  # noqa: TRY004  what was sent is wrong, not what was passed
    found = {}
    for entry in key_set["keys"]:
        if (
            isinstance(entry, dict)
            and isinstance(entry.get("kid"), str)
            and entry.get("kty") == "RSA"
            and entry.get("use", "sig") == "sig"
            and entry.get("alg", "RS256") == "RS256"
        ):
            try:
                key = RSAAlgorithm.from_jwk(entry)
            except (jwt.InvalidKeyError, ValueError):
                continue
            if isinstance(key, RSAPublicKey) and key.key_size >= SMALLEST_KEY_BITS:
                found[entry["kid"]] = key
    if not found:
        raise ValueError("no key")
    return found
