"""Authentication of operators: the ops token as bearer, or the cookie of the page with its CSRF token."""

import hmac
import os
import time
from dataclasses import dataclass
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response

from sync_service.operator_errors import BadCsrfToken, TooManyLogins
from sync_service.request_errors import BadToken
from sync_service.store.audit import API, PAGE
from sync_service.web.auth import BEARER
from sync_service.web.ops.login_limit import LoginLimit
from sync_service.web.ops.sessions import COOKIE_NAME, SESSION_LIFETIME, Session, SessionKeys

CSRF_HEADER = "x-csrf-token"
COOKIE_PATH = "/ops"

_SAFE_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Operator:
    """An authenticated caller. `session` is None for a caller with the token."""

    session: Session | None = None

    @property
    def who(self) -> str:
        """The caller's name in the audit."""
        return PAGE if self.session else API


class OpsAuthenticator:
    """Authenticates operators, and limits failed logins of one peer address."""

    def __init__(self, token: str) -> None:
        self._digest = _digest(token.encode())
        self._limit = LoginLimit()
        self.keys = SessionKeys(token)

    def authenticate(self, request: Request) -> Operator:
        """Return the caller. Raises `BadToken`, `BadCsrfToken` or `TooManyLogins`.

        A write with the cookie needs the session's CSRF token in the header X-CSRF-Token.
        """
        operator = self.identify(request)
        if operator.session and request.method not in _SAFE_METHODS:
            self.check_csrf_token(operator.session, request.headers.get(CSRF_HEADER, ""))
        return operator

    def identify(self, request: Request) -> Operator:
        """Return the caller, without a check of the CSRF token. Raises `BadToken` or `TooManyLogins`."""
        tokens = _read_bearer_tokens(request)
        if tokens:
            self._check_token(request, tokens[0] if len(tokens) == 1 else b"")
            return Operator()
        session = self.read_session(request)
        if session is None:
            raise BadToken("Send the operators' token, SYNC_OPS_TOKEN, as Authorization: Bearer.")
        return Operator(session)

    def log_in(self, request: Request, token: str) -> Session:
        """Return a new session for the ops token. Raises `BadToken` or `TooManyLogins`."""
        self._check_token(request, token.encode("utf-8", "replace"))
        return self.keys.create(time.time(), os.urandom(16))

    def read_session(self, request: Request) -> Session | None:
        """Return the session of the request's cookie, or None."""
        return self.keys.verify(request.cookies.get(COOKIE_NAME, ""), time.time())

    def check_csrf_token(self, session: Session, token: str) -> None:
        """Raise `BadCsrfToken` unless the token belongs to the session."""
        if not self.keys.is_csrf_token(session, token):
            raise BadCsrfToken("Load the operators' page again, and repeat the action there.")

    def set_cookie(self, request: Request, response: Response, session: Session) -> None:
        """Add the session's cookie to the response."""
        response.set_cookie(
            COOKIE_NAME,
            self.keys.sign(session),
            max_age=SESSION_LIFETIME,
            path=COOKIE_PATH,
            secure=is_secure(request),
            httponly=True,
            samesite="strict",
        )

    def clear_cookie(self, request: Request, response: Response) -> None:
        """Remove the session's cookie from the browser."""
        response.delete_cookie(
            COOKIE_NAME, path=COOKIE_PATH, secure=is_secure(request), httponly=True, samesite="strict"
        )

    def _check_token(self, request: Request, token: bytes) -> None:
        # The peer's own address: anyone can write X-Forwarded-For.
        address, now = request.client.host if request.client else "", time.monotonic()
        if seconds := self._limit.seconds_to_wait(address, now):
            raise TooManyLogins(seconds)
        # Digests have one length, so the time of the comparison reveals nothing about the token.
        if not hmac.compare_digest(_digest(token), self._digest):
            self._limit.add_failure(address, now)
            raise BadToken("The operators' token is wrong.")


def is_secure(request: Request) -> bool:
    """Return whether the browser used TLS, up to this process or up to the proxy in front."""
    proxy = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return "https" in {request.url.scheme, proxy}


def _read_bearer_tokens(request: Request) -> list[bytes]:
    """Return the bearer tokens. A proxy in front may use another scheme for its own login."""
    values = (value for name, value in request.scope["headers"] if name == b"authorization")
    return [match[1] for value in values if (match := BEARER.fullmatch(value))]


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()
