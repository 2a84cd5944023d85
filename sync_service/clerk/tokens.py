"""A session token → whose it is, or the reason why it is not accepted.

https://clerk.com/docs/guides/sessions/session-tokens ; PyJWT does the reading and cryptography the arithmetic.

Stricter than Clerk's own SDK for Python, which takes a token without `exp` or `sub`, of any issuer, of a session that
is still pending, and asks Clerk about machine tokens and for its keys at every bad signature.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.types import Options

from sync_service.clerk.keys import Keys
from sync_service.errors import BadToken

# Clerk's own must fit into a cookie of 4 kB.
LONGEST_TOKEN = 8192

LEEWAY_SECONDS = 5

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


class SessionTokens:
    """The rules of one instance."""

    def __init__(self, keys: Keys, *, issuer: str | None, parties: Sequence[str], instance_id: str | None) -> None:
        """Take tokens that one of `keys` has signed. With `parties`, a token must name one of them as its `azp`."""
        self._keys = keys
        self._issuer = issuer
        self._parties = frozenset(party.rstrip("/") for party in parties)
        self._instance_id = instance_id

    async def verify(self, token: str) -> SessionToken:
        """Return what the token says. Raises `BadToken`, or `ClerkUnavailable` when there is no key set at all."""
        kid = self._kid(token)
        key = self._keys.known(kid)
        if key is None:
            # What is foreign or over anyway is not worth a question to Clerk.
            self._claims(token, None)
            key = await self._keys.find(kid)
            if key is None:
                raise BadToken("The token is signed with a key that is not this instance's.")
        claims = self._claims(token, key)
        return SessionToken(claims["sub"], kid if kid and kid.startswith("ins_") else None)

    def _kid(self, token: str) -> str | None:
        """Return the ID of the key, if the header is a session token's."""
        if len(token) > LONGEST_TOKEN or not _THREE_PARTS.fullmatch(token):
            raise BadToken("This is not a session token of Clerk.")
        try:
            header = jwt.get_unverified_header(token)
            kid = header.get("kid")
            session = str(header.get("typ", "JWT")).upper() == "JWT" and "crit" not in header
        except _UNREADABLE:
            raise BadToken("The token cannot be read.") from None
        if header.get("alg") != "RS256" or not session:
            raise BadToken("This is not a session token of Clerk.")
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
