"""Authentication: the app's backend by the service token, a user by a session token of Clerk."""

import re
from hmac import compare_digest

from starlette.requests import Request

from sync_service.clerk.session_tokens import SessionClaims, SessionTokenVerifier
from sync_service.request_errors import BadToken, NoTokenKey

BEARER = re.compile(rb"bearer +(\S+) *", re.IGNORECASE)


class Authenticator:
    """Authenticates callers. A method that is not configured accepts no caller."""

    def __init__(self, session_tokens: SessionTokenVerifier | None, api_token: str | None) -> None:
        """Pass None for a method that is not configured."""
        self._session_tokens = session_tokens
        self._api_token = api_token.encode() if api_token else None

    async def authenticate(self, request: Request) -> SessionClaims | None:
        """Return the user's session, or None for the app's backend. Raises `BadToken` or `ClerkUnavailable`."""
        token = _read_token(request)
        if self._is_service_token(token):
            return None
        if self._session_tokens is None:
            raise NoTokenKey("The token is not accepted.")
        return await self._session_tokens.verify(token.decode("latin-1"))

    def require_service_token(self, request: Request) -> None:
        """Raise `BadToken` unless the request has the service token of the app's backend."""
        if not self._is_service_token(_read_token(request)):
            raise BadToken("This route requires the service token, SYNC_API_TOKEN.")

    def _is_service_token(self, token: bytes) -> bool:
        return self._api_token is not None and compare_digest(token, self._api_token)


def _read_token(request: Request) -> bytes:
    values = [value for name, value in request.scope["headers"] if name == b"authorization"]
    match = BEARER.fullmatch(values[0]) if len(values) == 1 else None
    if not match:
        raise BadToken("The request needs exactly one header Authorization: Bearer with one token.")
    return match[1]
