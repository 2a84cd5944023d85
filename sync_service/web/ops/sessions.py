"""Sessions of the operators' page: a signed cookie and its CSRF token (pure).

No process keeps a session. The key of the signatures follows from SYNC_OPS_TOKEN, so a cookie is valid in every
process, and no longer once the token changes.
"""

import base64
import hmac
import re
from dataclasses import dataclass
from hashlib import sha256

COOKIE_NAME = "sync_service_ops"

# Seconds: a working day.
SESSION_LIFETIME = 12 * 3600

_VALUE = re.compile(r"([0-9]{1,12})\.([0-9A-Za-z_-]{22})\.([0-9A-Za-z_-]{43})")


@dataclass(frozen=True, slots=True)
class Session:
    """A login. `nonce` makes two sessions differ, `expires_at` is in seconds since 1970."""

    expires_at: int
    nonce: str


class SessionKeys:
    """Signs and verifies sessions. Keys with different purposes follow from one token."""

    def __init__(self, token: str) -> None:
        self._cookie_key = _derive_key(token, b"sync-service ops cookie")
        self._csrf_key = _derive_key(token, b"sync-service ops csrf token")

    def create(self, now: float, random: bytes) -> Session:
        """Return a new session; `random` has 16 bytes."""
        return Session(int(now) + SESSION_LIFETIME, _encode(random))

    def sign(self, session: Session) -> str:
        """Return the value of the cookie."""
        payload = f"{session.expires_at}.{session.nonce}"
        return f"{payload}.{_sign(self._cookie_key, payload)}"

    def verify(self, value: str, now: float) -> Session | None:
        """Return the session of a cookie, or None if it is forged or expired."""
        match = _VALUE.fullmatch(value)
        if match is None:
            return None
        session = Session(int(match[1]), match[2])
        is_genuine = hmac.compare_digest(self.sign(session), value)
        return session if is_genuine and now < session.expires_at else None

    def create_csrf_token(self, session: Session) -> str:
        """Return the token that each form of the session contains. A site that sends the cookie cannot know it."""
        return _sign(self._csrf_key, f"{session.expires_at}.{session.nonce}")

    def is_csrf_token(self, session: Session, token: str) -> bool:
        """Return whether the token belongs to the session."""
        return hmac.compare_digest(self.create_csrf_token(session).encode(), token.encode("utf-8", "replace"))


def _derive_key(token: str, purpose: bytes) -> bytes:
    # The token has enough entropy, so one HMAC is the whole of HKDF's second step.
    return hmac.digest(token.encode(), purpose, sha256)


def _sign(key: bytes, text: str) -> str:
    return _encode(hmac.digest(key, text.encode(), sha256))


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
