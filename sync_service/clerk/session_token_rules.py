"""The rules of session tokens: which claims and which headers are accepted.

https://clerk.com/docs/guides/sessions/session-tokens ; PyJWT parses the token and cryptography checks the signature.

The rules are stricter than those of Clerk's SDK for Python. The SDK accepts a token without `exp` or `sub`, of any
issuer, or of a pending session. It also sends a request to Clerk for each machine token and each bad signature.
"""

import base64
import re
from dataclasses import dataclass
from typing import Any

import jwt
import msgspec
from jwt.types import Options

from sync_service.clerk.resource import UNREADABLE_JSON
from sync_service.request_errors import BadToken

# A session token of Clerk must fit into a cookie of 4 kB.
MAX_TOKEN_LENGTH = 8192

LEEWAY_SECONDS = 5

# The header `cat` of a session token, and the one that Clerk's SDK ignores. Older tokens have none. Tokens of JWT
# templates and machines have others.
SESSION_CATEGORIES = frozenset({None, "cl_B7d4PD111AAA", "cl_I7d4PD111III"})

TICKET_TYPES = ("invitation", "organization_invitation", "sign_in_token", "actor_token")

REQUIRED_CLAIMS = ["exp", "nbf", "sub", "iss", "sid"]

# Prefixes of a `sub` that is a machine, a client or an organisation, not a user.
NON_USER_PREFIXES = ("mch_", "m2m_", "oat_", "ak_", "client_", "org_")

# PyJWT's own errors, and those that a maliciously built payload raises in it.
_DECODE_ERRORS = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError, AttributeError)

_SESSION_ID = re.compile(r"sess_\w+", re.ASCII)

_THREE_PARTS = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The tokens of one Clerk instance. With `parties`, the token's `azp` must be one of them."""

    issuer: str | None
    parties: frozenset[str]
    instance_id: str | None
    # Seconds.
    max_lifetime: float

    def read_kid(self, token: str) -> str | None:
        """Return the key ID. Raises `BadToken` unless the header is a session token's."""
        header = _read_header(token)
        if header.alg != "RS256" or header.typ.upper() != "JWT" or header.crit is not msgspec.UNSET:
            raise BadToken("This is not a session token of Clerk.")
        if header.cat not in SESSION_CATEGORIES:
            raise BadToken("This is a token of a JWT template or a machine, not a session token of Clerk.")
        kid = header.kid
        if kid and kid.startswith("ins_") and self.instance_id not in {None, kid}:
            raise BadToken("The token belongs to another Clerk instance.")
        return kid

    def read_claims(self, token: str, key: Any) -> dict[str, Any]:
        """Return the claims. Raises `BadToken` if one is invalid. Without a key, the signature is not verified."""
        claims = self._decode(token, key)
        _check_session(claims)
        # PyJWT has checked that the times are numbers. Clerk sets `nbf` 10 s before `iat`.
        if int(claims["exp"]) - int(claims.get("iat", claims["nbf"])) > self.max_lifetime:
            raise BadToken("The token's lifetime is longer than SYNC_MAX_TOKEN_LIFETIME.")
        subject = claims["sub"]
        if not re.fullmatch(r"[!-~]{1,255}", subject) or subject.startswith(NON_USER_PREFIXES):
            raise BadToken("The token does not belong to a user.")
        if not re.fullmatch(r"https?://\S+", str(claims["iss"])):
            raise BadToken("The token has no valid issuer.")
        if self.parties and str(claims.get("azp")) not in self.parties:
            raise BadToken("The token's authorized party (azp) is not accepted here.")
        if claims.get("sts") == "pending":
            raise BadToken("The session is pending: the user has not finished signing in.")
        return claims

    def _decode(self, token: str, key: Any) -> dict[str, Any]:
        try:
            claims = jwt.decode(
                token,
                key or "",
                algorithms=["RS256"],
                issuer=self.issuer,
                leeway=LEEWAY_SECONDS,
                options=_VERIFIED_OPTIONS if key else _UNVERIFIED_OPTIONS,
            )
        except jwt.ExpiredSignatureError:
            raise BadToken("The token has expired.") from None
        except jwt.ImmatureSignatureError:
            raise BadToken("The token is not valid yet.") from None
        except _DECODE_ERRORS:
            raise BadToken("The token is not valid, or belongs to another Clerk instance.") from None
        return claims


def _read_header(token: str) -> "_Header":
    if len(token) > MAX_TOKEN_LENGTH or not _THREE_PARTS.fullmatch(token):
        raise BadToken("This is not a session token of Clerk.")
    try:
        # PyJWT would decode the whole token for its header, and decode it again to verify it.
        encoded = token.partition(".")[0]
        return _header_decoder.decode(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (*UNREADABLE_JSON, ValueError):
        raise BadToken("The token cannot be read.") from None


def _check_session(claims: dict[str, Any]) -> None:
    """Raise `BadToken` unless the token belongs to a session.

    Tokens of JWT templates have no `sid`. In the tickets of invitations and sign-ins, `sid` is the ID of the ticket
    and `st` its type.
    """
    if not _SESSION_ID.fullmatch(str(claims["sid"])) or claims.get("st") in TICKET_TYPES:
        raise BadToken("The token does not belong to a session.")


class _Header(msgspec.Struct):
    alg: str
    typ: str = "JWT"
    kid: str | None = None
    cat: str | None = None
    crit: Any = msgspec.UNSET


_header_decoder = msgspec.json.Decoder(_Header)

# `aud` is ignored, as in Clerk's SDK for JavaScript: Clerk's Convex integration sets it in session tokens.
_VERIFIED_OPTIONS: Options = {"require": REQUIRED_CLAIMS, "verify_aud": False}
# `verify_signature=False` turns off all other checks of PyJWT too, so they are turned on again.
_UNVERIFIED_OPTIONS: Options = {
    "require": REQUIRED_CLAIMS,
    "verify_signature": False,
    "verify_exp": True,
    "verify_nbf": True,
    "verify_iat": True,
    "verify_iss": True,
    "verify_sub": True,
}
