"""The place of an event in a list that is ordered by time and ID, and its text for the next request (pure)."""

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TEXT = re.compile(r"(-?[0-9]{1,18}) ([!-~]{1,255})")


@dataclass(frozen=True, slots=True)
class EventPosition:
    """The properties of an event that never change, so no page misses or repeats an event."""

    received_at: datetime
    id: str

    def encode(self) -> str:
        """Return the cursor. It contains the time and the ID, no secret."""
        text = f"{(self.received_at - _EPOCH) // _MICROSECOND} {self.id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> EventPosition:
    """Return the position of a cursor. Raises `ValueError`."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        match = _TEXT.fullmatch(base64.b64decode(padded, altchars=b"-_", validate=True).decode())
        if match:
            return EventPosition(_EPOCH + int(match[1]) * _MICROSECOND, match[2])
    except (ValueError, OverflowError):
        pass
    raise ValueError("not a cursor")
