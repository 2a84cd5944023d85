"""One notification of the app: body, signature and the pauses between attempts (pure).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import msgspec
from msgspec import Raw, Struct
from standardwebhooks import Webhook

from sync_service.big_integers import quote_big_integers
from sync_service.store.deliveries import Notification, Result

# The pauses before the second and each later attempt, as Svix makes them: eight attempts in 28 hours.
PAUSES = tuple(timedelta(seconds=s) for s in (5, 300, 1800, 7200, 18_000, 36_000, 36_000))

# Receivers that recover are not called by all deliveries at one moment.
JITTER = 0.1

# A receiver cannot postpone an attempt for longer.
MAX_RETRY_AFTER = timedelta(hours=24)


class Reply(Struct, frozen=True):
    """The reply of a receiver: its status and its `Retry-After`; or the class of the `error`."""

    status: int | None = None
    retry_after: str | None = None
    error: str | None = None


class _Data(Struct):
    clerk_id: str
    key: Raw | None
    columns: Sequence[str]
    row: Raw | None


class _Body(Struct):
    id: str
    type: str
    data: _Data


def build_body(notification: Notification) -> str:
    """Return the JSON of a change. After a deletion it has the ID and the key only."""
    entry = notification.entry
    columns = [] if notification.is_deleted else entry.columns
    data = _Data(entry.clerk_id, _encode(entry.key), columns, _encode(notification.row))
    return msgspec.json.encode(_Body(make_id(notification), entry.type, data)).decode()


def make_id(notification: Notification) -> str:
    """Return the ID of the change, which is the same in each attempt."""
    return f"chg_{notification.entry.position}"


def sign(message_id: str, body: str, at: datetime, secrets: Sequence[str]) -> Mapping[str, str]:
    """Return the headers of Standard Webhooks, with one signature for each secret."""
    signatures = (Webhook(secret).sign(message_id, at, body) for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
        "content-type": "application/json",
    }


def judge(notification: Notification, reply: Reply, at: datetime) -> Result:
    """Return the result of an attempt that ended at this time."""
    position = notification.entry.position
    if reply.status is not None and 200 <= reply.status < 300:
        return Result(position)
    reason = reply.error or f"http_{reply.status}"
    if notification.attempts >= len(PAUSES):
        return Result(position, reason)
    pause = PAUSES[notification.attempts] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  no secret
    return Result(position, reason, max(pause, parse_retry_after(reply.retry_after, at)))


def parse_retry_after(text: str | None, now: datetime) -> timedelta:
    """Return the pause that a receiver asks for: seconds or a date, zero if it is unreadable."""
    if not text:
        return timedelta()
    try:
        if text.isdecimal() and text.isascii():
            return min(timedelta(seconds=int(text[:9])), MAX_RETRY_AFTER)
        return min(max(parsedate_to_datetime(text) - now, timedelta()), MAX_RETRY_AFTER)
    except (ValueError, TypeError, OverflowError):
        return timedelta()


def _encode(text: str | None) -> Raw | None:
    return None if text is None else Raw(quote_big_integers(text).encode())
