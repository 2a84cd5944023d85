"""Hides the personal values in a user's JSON (pure). Only values that cannot be personal stay visible."""

import re
from typing import Any

HIDDEN = "(hidden)"

_WORD_FIELDS = frozenset({"object", "type", "status", "strategy"})
_WORD = re.compile(r"[a-z_]{1,40}")
_CLERK_ID = re.compile(r"(?:user|idn|ins|org|orgmem|sess|client|img|ver|eac)_[0-9A-Za-z]{1,60}")
_KEY = re.compile(r"[0-9]{1,20}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"[0-9]{13}|[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:.]{8,15}(?:Z|[+-][0-9:]{2,5})?")


def mask(value: Any, name: str = "") -> Any:
    """Return the value of a field without its personal parts. The keys of metadata may be personal, too."""
    if isinstance(value, dict) and not name.endswith("metadata"):
        return {key: mask(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [mask(part, name) for part in value]
    return value if value is None or isinstance(value, bool) or _is_visible(str(value), name) else HIDDEN


def _is_visible(text: str, name: str) -> bool:
    if name in _WORD_FIELDS:
        return bool(_WORD.fullmatch(text))
    if name.endswith("_at"):
        return bool(_TIME.fullmatch(text))
    if name == "id" and _KEY.fullmatch(text):
        return True
    return (name == "id" or name.endswith("_id")) and bool(_CLERK_ID.fullmatch(text))
