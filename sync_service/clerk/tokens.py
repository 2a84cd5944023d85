"""A session token → whose it is, or the reason why it is not accepted.

https://clerk.com/docs/guides/sessions/session-tokens ; PyJWT does the reading and cryptography the arithmetic.

Stricter than Clerk's own SDK for Python, which takes a token without `exp` or `sub`, of any issuer, of a session that
is still pending, and asks Clerk about machine tokens and for its keys at every bad signature.
"""

import base64
import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.types import Options

from sync_service.clerk.keys import Keys
from sync_service.errors import BadToken

# Clerk's own must fit into a cookie of 4 kB.
LONGEST_TOKEN = 8192

LEEWAY_SECONDS = 5

# A browser shows one token for a minute, and an app may ask at every request. Only what was verified is remembered, so
# nobody can fill this with inventions.
MOST_SEEN = 4096

REQUIRED = ["exp", "nbf", "sub", "iss"]

# Whose `sub` is a machine or a client, not a user.
MACHINES = ("mch_", "m2m_", "oat_", "ak_", "client_", "org_")

# PyJWT's own errors, and what comes out of JSON that is made to break its reader.
_UNREADABLE = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError, AttributeError)

_THREE_PARTS = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class SessionToken:
    """What a genuine token says: the user, and the instance as far as its key's ID tells it."""

    clerk_id: str
    instance_id: str | None


@dataclass(frozen=True, slots=True)
class _Seen:
    token: SessionToken
    kid: str | None
    key: RSAPublicKey
    expires_at: float


class SessionTokens:
    """The rules of one instance."""

    def __init__(self, keys: Keys, *, issuer: str | None, parties: Sequence[str], instance_id: str | None) -> None:
        """Take tokens that one of `keys` has signed. With `parties`, a token must name one of them as its `azp`."""
        self._keys = keys
        self._issuer = issuer
        self._parties = frozenset(party.rstrip("/") for party in parties)
        self._instance_id = instance_id
        self._seen: dict[bytes, _Seen] = {}

    async def verify(self, token: str) -> SessionToken:
        """Return what the token says. Raises `BadToken`, or `ClerkUnavailable` when there is no key set at all."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        seen = self._seen.get(digest)
        # By the same key still: one that was taken out of the set opens nothing any more.
        if seen and time.time() < seen.expires_at and self._keys.known(seen.kid) is seen.key:
            return seen.token
        kid = self._kid(token)
        key = self._keys.known(kid)
        if key is None:
            # What is foreign or over anyway is not worth a question to Clerk.
            self._claims(token, None)
            key = await self._keys.find(kid)
            if key is None:
                raise BadToken("The token is signed with a key that is not this instance's.")
        claims = self._claims(token, key)
        verified = SessionToken(claims["sub"], kid if kid and kid.startswith("ins_") else None)
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen[digest] = _Seen(verified, kid, key, float(claims["exp"]))
        return verified

    def _kid(self, token: str) -> str | None:
        """Return the ID of the key, if the header is a session token's."""
        if len(token) > LONGEST_TOKEN or not _THREE_PARTS.fullmatch(token):
            raise BadToken("This is not a session token of Clerk.")
        try:
            # Not by PyJWT, which would read the whole token for it, and once more to verify it.
            encoded = token.partition(".")[0]
            header = _header.decode(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise BadToken("The token cannot be read.") from None
        if header.alg != "RS256" or header.typ.upper() != "JWT" or header.crit is not msgspec.UNSET:
            raise BadToken("This is not a session token of Clerk.")
        kid = header.kid
        if kid and kid.startswith("ins_") and self._instance_id not in {None, kid}:
            raise BadToken("The token is of another Clerk instance.")
        return kid

    def _claims(self, token: str, key: Any) -> dict[str, Any]:
        """Return the claims, once they are all as they must be. Without a key they are looked at, not verified."""
        try:
            claims = jwt.decode(
                token,
                key or "",
                algorithms=["RS256"],
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options=_VERIFIED if key else _LOOKED_AT,
            )
        except jwt.ExpiredSignatureError:
            raise BadToken("The token has expired.") from None
        except jwt.ImmatureSignatureError:
            raise BadToken("The token is not valid yet.") from None
        except _UNREADABLE:
            raise BadToken("The token is not genuine, or not of this Clerk instance.") from None
        subject = claims["sub"]
        if not re.fullmatch(r"[!-~]{1,255}", subject) or subject.startswith(MACHINES):
            raise BadToken("The token is not a user's.")
        if not re.fullmatch(r"https?://\S+", str(claims["iss"])):
            raise BadToken("The token names no issuer.")
        if self._parties and str(claims.get("azp")) not in self._parties:
            raise BadToken("The token was made for a party that is not authorized here.")
        if claims.get("sts") == "pending":
            raise BadToken("The session is pending: the user has not finished signing in.")
        return claims


class _Header(msgspec.Struct):
    alg: str
    typ: str = "JWT"
    kid: str | None = None
    crit: Any = msgspec.UNSET


_header = msgspec.json.Decoder(_Header)

_VERIFIED: Options = {"require": REQUIRED}
# By itself PyJWT looks at nothing once it does not look at the signature.
_LOOKED_AT: Options = {
    "require": REQUIRED,
    "verify_signature": False,
    "verify_exp": True,
    "verify_nbf": True,
    "verify_iat": True,
    "verify_iss": True,
    "verify_aud": True,
    "verify_sub": True,
}
