"""Verify the signature of a webhook: headers and body in, the message's ID out.

https://docs.svix.com/receiving/verifying-payloads/how-manual

The svix library computes the expected signature, in its package `standardwebhooks`; `import svix` would also load its
API client, which takes half a second and 40 MB. The comparison is here. The library's own `verify` has one secret and a
fixed clock, accepts timestamps such as `+1_0.7` and base64 with invalid characters, and raises `ValueError`,
`binascii.Error` and `UnicodeDecodeError`, in some cases before it has compared a later, valid signature.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hmac import compare_digest
from typing import NamedTuple

from standardwebhooks.webhooks import Webhook

from sync_service.request_errors import BadPayload, BadSignature, BadTimestamp, MissingHeaders

# Svix signs each attempt again with the current time, so five minutes are enough even for a retry after ten hours.
TOLERANCE_SECONDS = 300

# Svix sends one signature per active key, and keeps at most eleven keys during rotation. 32 leaves a margin.
MAX_SIGNATURES = 32


class WebhookVerifier:
    """Verifies webhooks with one of several secrets: an old and a new one, or those of two endpoints."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Use secrets in the form of `Settings`. Raises `ValueError` for an empty list: verification is never off."""
        if not secrets:
            raise ValueError("no signing secret")
        self._keys = [Webhook(secret) for secret in secrets]

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: float) -> str:
        """Return the message's ID (`msg_…`), which is the same for all deliveries of the message.

        `headers` has lower-case names; `now` is seconds since 1970. Raises `MissingHeaders`, `BadTimestamp`,
        `BadPayload` (Svix signs only text, and the body is not UTF-8) or `BadSignature`.
        """
        return self.verify_body(read_signature(headers, now=now), body)

    def verify_body(self, signature: "Signature", body: bytes) -> str:
        """Return the message's ID if a secret has signed the body. Raises `BadPayload` or `BadSignature`."""
        message_id, sent_at, tokens = signature
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise BadPayload("The body is not UTF-8.") from None
        for key in self._keys:
            expected = key.sign(message_id, sent_at, text).encode()
            # All tokens are compared, so that the time taken does not depend on the position of the match.
            if sum(compare_digest(expected, token) for token in tokens):
                return message_id
        raise BadSignature("No signature matches this body and a configured secret.")


class Signature(NamedTuple):
    """The signature headers of a webhook, which are checked before its body is read."""

    message_id: str
    sent_at: datetime
    tokens: list[bytes]


def read_signature(headers: Mapping[str, str], *, now: float) -> Signature:
    """Return the signature headers. Raises `MissingHeaders`, `BadTimestamp` or `BadSignature`."""
    message_id, timestamp, signatures = _read_headers(headers)
    sent_at = _parse_timestamp(timestamp, now)
    if not _MESSAGE_ID.fullmatch(message_id):
        raise BadSignature("svix-id is not a valid message ID.")
    # `v1,<base64>` per key. Other versions such as `v1a,…` may be in the list; they never equal an expected `v1`.
    # A proxy joins repeated header lines by a comma and a space.
    tokens = signatures.encode("latin-1", "replace").replace(b", ", b" ").split()[:MAX_SIGNATURES]
    return Signature(message_id, sent_at, tokens)


def _read_headers(headers: Mapping[str, str]) -> tuple[str, str, str]:
    """Return ID, timestamp and signatures."""
    # All three come from one family of headers, never an ID from one family and a signature from the other.
    family = _UNBRANDED if headers.keys().isdisjoint(_SVIX) else _SVIX
    message_id, timestamp, signatures = [headers.get(name, "").strip() for name in family]
    if not (message_id and timestamp and signatures):
        raise MissingHeaders("svix-id, svix-timestamp and svix-signature are all required.")
    return message_id, timestamp, signatures


def _parse_timestamp(timestamp: str, now: float) -> datetime:
    if not _SECONDS.fullmatch(timestamp):
        raise BadTimestamp("svix-timestamp is not whole seconds since 1970.")
    seconds = int(timestamp)
    if abs(now - seconds) > TOLERANCE_SECONDS:
        raise BadTimestamp("svix-timestamp is more than five minutes from this server's time.")
    return datetime.fromtimestamp(seconds, tz=UTC)


_SVIX = ("svix-id", "svix-timestamp", "svix-signature")
_UNBRANDED = ("webhook-id", "webhook-timestamp", "webhook-signature")
_SECONDS = re.compile(r"[0-9]{1,11}")
_MESSAGE_ID = re.compile(r"[!-~]{1,255}")
