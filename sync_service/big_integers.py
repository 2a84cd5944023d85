"""Integers in JSON that JavaScript cannot read exactly (pure)."""

import re

# `JSON.parse` turns 1152921504606846977 into 1152921504606846976, which may be another user's key.
MAX_SAFE_INTEGER = 2**53 - 1

_LONG_NUMBER = re.compile(r"[0-9]{16}")

# Possessive: the regular expression would keep 130 bytes for each character of a text to backtrack to.
_STRING_OR_NUMBER = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?')


def quote_big_integers(text: str) -> str:
    """Return the JSON text with each integer beyond 2^53 - 1 as a string."""
    if not _LONG_NUMBER.search(text):  # most rows
        return text
    return _STRING_OR_NUMBER.sub(_quote, text)


def _quote(match: re.Match[str]) -> str:
    token = match[0]
    digits = token.removeprefix("-")
    # The length first: Python refuses to parse an integer of more than 4,300 digits.
    is_big = digits.isdecimal() and (len(digits) > 16 or int(digits) > MAX_SAFE_INTEGER)
    return f'"{token}"' if is_big else token
