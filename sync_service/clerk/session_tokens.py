"""Verify session tokens: a token in, its user's ID out. Valid tokens and their keys are cached."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from sync_service.clerk.jwks import KeySource
from sync_service.clerk.session_token_rules import TokenRules
from sync_service.request_errors import BadToken

MAX_LIFETIME = timedelta(days=1)

# A browser uses one token for a minute, and an app may call this service at each request, so verified tokens are
# cached. Invalid tokens are not cached, so invented ones cannot fill the cache.
MAX_CACHED_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """The user of a verified token, and the instance if the key's ID is one."""

    clerk_id: str
    instance_id: str | None


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    token: SessionClaims
    kid: str | None
    key: RSAPublicKey
    expires_at: float


class SessionTokenVerifier:
    """Verifies the session tokens of one Clerk instance."""

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str | None,
        parties: Sequence[str],
        instance_id: str | None,
        max_lifetime: timedelta = MAX_LIFETIME,
        max_cached_tokens: int = MAX_CACHED_TOKENS,
    ) -> None:
        """Accept tokens that one of `keys` has signed. With `parties`, the token's `azp` must be one of them."""
        self._keys = keys
        self._rules = TokenRules(
            issuer, frozenset(party.rstrip("/") for party in parties), instance_id, max_lifetime.total_seconds()
        )
        self._max_cached_tokens = max_cached_tokens
        self._cache: dict[bytes, _CacheEntry] = {}

    async def verify(self, token: str) -> SessionClaims:
        """Return the claims of a valid token. Raises `BadToken`, or `ClerkUnavailable` while there is no key set."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        entry = self._cache.get(digest)
        # The key must still be the same: a cached token is invalid once its key has left the key set.
        if entry and time.time() < entry.expires_at and self._keys.get_cached(entry.kid) is entry.key:
            return entry.token
        kid = self._rules.read_kid(token)
        key = self._keys.get_cached(kid)
        if key is None:
            # An expired or foreign token is rejected before the key is fetched, so it costs no request to Clerk.
            self._rules.read_claims(token, None)
            key = await self._keys.get(kid)
            if key is None:
                raise BadToken("The token's signing key does not belong to this Clerk instance.")
        claims = self._rules.read_claims(token, key)
        verified = SessionClaims(claims["sub"], kid if kid and kid.startswith("ins_") else None)
        if len(self._cache) >= self._max_cached_tokens:
            self._cache.clear()
        self._cache[digest] = _CacheEntry(verified, kid, key, float(claims["exp"]))
        return verified
