"""Lengths of time as people write them: 90s, 15m, 24h, 30d (pure)."""

import re
from datetime import timedelta

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

# PostgreSQL's calendar goes further, but who writes 999999999d has meant something else.
LONGEST = timedelta(days=36_525)


def read_duration(text: str) -> timedelta:
    """Return the length of time. Raises `ValueError` with a sentence that follows the setting's name."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if not match:
        raise ValueError("is not a duration; write 90s, 15m, 24h or 30d")
    duration = timedelta(**{UNITS[match[2]]: int(match[1])})
    if duration > LONGEST:
        raise ValueError("is longer than a hundred years")
    return duration
