"""Who is calling: the app's backend, by the service token, or a user, by a session token of Clerk."""

import re
from hmac import compare_digest

import structlog
from starlette.requests import Request

from sync_service.clerk.tokens import SessionToken, SessionTokens
from sync_service.errors import BadToken

log = structlog.get_logger()

_BEARER = re.compile(rb"bearer +(\S+) *", re.IGNORECASE)


class Callers:
    """Tells callers apart. What is not configured lets nobody in."""

    def __init__(self, session_tokens: SessionTokens | None, api_token: str | None) -> None:
        """Take what the settings lead to."""
        self._session_tokens = session_tokens
        self._api_token = api_token.encode() if api_token else None
        self._told = False

    async def caller(self, request: Request) -> SessionToken | None:
        """Return whose session it is, or None for the app's backend. Raises `BadToken` or `ClerkUnavailable`."""
        token = _token(request)
        if self._is_backend(token):
            return None
        if self._session_tokens is None:
            if not self._told:  # once: strangers may come often
                self._told = True
                log.warning("no session token can be verified", hint="set CLERK_PUBLISHABLE_KEY or CLERK_JWT_KEY")
            raise BadToken("The token is not accepted.")
        return await self._session_tokens.verify(token.decode("latin-1"))

    def backend(self, request: Request) -> None:
        """Raise `BadToken` unless it is the app's backend."""
        if not self._is_backend(_token(request)):
            raise BadToken("This is for the app's backend, with the token in SYNC_API_TOKEN.")

    def _is_backend(self, token: bytes) -> bool:
        return self._api_token is not None and compare_digest(token, self._api_token)


def _token(request: Request) -> bytes:
    given = [value for name, value in request.scope["headers"] if name == b"authorization"]
    match = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
    if not match:
        raise BadToken("There must be a header Authorization: Bearer with one token.")
    return match[1]
