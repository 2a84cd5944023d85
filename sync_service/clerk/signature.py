"""Whether a webhook is genuine: headers and bytes in, the message's ID out, or the reason why not.

https://docs.svix.com/receiving/verifying-payloads/how-manual

svix makes the signature that the body should carry; the comparison is here. Its own `verify` has one secret and a
clock of its own, takes timestamps such as `+1_0.7` and base64 with junk inside, and lets `ValueError`,
`binascii.Error` and `UnicodeDecodeError` escape, some of them before a good signature further on was looked at.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hmac import compare_digest

from svix.webhooks import Webhook

from sync_service.errors import BadPayload, BadSignature, BadTimestamp, MissingHeaders

# Svix signs each attempt anew with its time, so five minutes are enough even for a retry after ten hours.
TOLERANCE_SECONDS = 300

# Svix rotates through at most eleven keys and sends a signature for each; nobody sends more in good faith.
MOST_SIGNATURES = 32


class Verifier:
    """Holds the secrets: any of them will do, so that one can be rotated or two endpoints served."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Take secrets as `Settings` has them. Raises `ValueError` without any: nothing is accepted unsigned."""
        if not secrets:
            raise ValueError("no signing secret")
        self._keys = [Webhook(secret) for secret in secrets]

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: float) -> str:
        """Return the message's ID (`msg_…`, the same for every delivery of it).

        `headers` has lower-case names; `now` is seconds since 1970. Raises `MissingHeaders`, `BadTimestamp`,
        `BadPayload` (bytes that are no text, so nothing Svix signed) or `BadSignature`.
        """
        # One family or the other; never an ID from this and a signature from that.
        family = _UNBRANDED if headers.keys().isdisjoint(_SVIX) else _SVIX
        message_id, timestamp, signatures = (headers.get(name, "").strip() for name in family)
        if not (message_id and timestamp and signatures):
            raise MissingHeaders("svix-id, svix-timestamp and svix-signature are all needed.")
        if not _SECONDS.fullmatch(timestamp):
            raise BadTimestamp("svix-timestamp is not whole seconds since 1970.")
        seconds = int(timestamp)
        if abs(now - seconds) > TOLERANCE_SECONDS:
            raise BadTimestamp("svix-timestamp is more than five minutes from this server's time.")
        if not _MESSAGE_ID.fullmatch(message_id):
            raise BadSignature("svix-id is not an ID that Svix makes.")
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise BadPayload("The body is not UTF-8.") from None
        # `v1,<base64>` for each key, and perhaps other versions (`v1a,…`), which fit nothing that is expected here.
        sent = signatures.encode("latin-1", "replace").split()[:MOST_SIGNATURES]
        at = datetime.fromtimestamp(seconds, tz=UTC)
        for key in self._keys:
            expected = key.sign(message_id, at, text).encode()
            # Every one is compared, so that the time taken does not tell which was close.
            if sum(compare_digest(expected, token) for token in sent):
                return message_id
        raise BadSignature("No signature fits this body and any configured secret.")


_SVIX = ("svix-id", "svix-timestamp", "svix-signature")
_UNBRANDED = ("webhook-id", "webhook-timestamp", "webhook-signature")
_SECONDS = re.compile(r"[0-9]{1,11}")
_MESSAGE_ID = re.compile(r"[!-~]{1,255}")
