"""JSON with values that PostgreSQL or a decoder cannot hold → JSON without them (pure).

NUL is dropped from texts and a lone surrogate becomes U+FFFD. A number beyond the decoder's range and a value that is
nested deeper than `MAX_DEPTH` become null. The rest keeps its bytes.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from sync_service.clerk.resource import UNREADABLE_JSON

T = TypeVar("T")

# Every decoder recurses, and the depth that it reaches depends on its caller's stack. Half of Python's limit is safe.
MAX_DEPTH = 500

# Python and msgspec read no longer integer.
MAX_DIGITS = 4300

# A deeply nested value is replaced below so many objects: envelope, session, user, metadata.
_KEPT_OBJECTS = 4

# Members that contain the user and are no field of it.
_WRAPPERS = frozenset({"data", "user", "profile"})
# Without its NUL, such a text would name another user or another type.
_IDENTIFIERS = frozenset({"id", "user_id", "instance_id", "type"})

# A text without an end is one token too: a search for the end from each quote would take quadratic time.
_TEXT = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_TOKEN = re.compile(rf"(?P<text>{_TEXT})(?=\s*(?P<colon>:?))|-?[0-9][0-9.eE+-]*|[\[\]{{}}]", re.DOTALL)
_TEXT_BYTES = re.compile(_TEXT.encode(), re.DOTALL)
_NO_BRACKETS = bytes({*range(256)} - {*b"[]{}"})
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_REPLACEABLE = re.compile("\\\\u0000|\\\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNKNOWN = "\ufffd"
_encode = json.JSONEncoder(ensure_ascii=False).encode


def parse_tolerantly(parse: Callable[[bytes], T], content: bytes) -> tuple[T, tuple[str, ...]]:
    """Return the result of `parse`, and the fields in which a value was replaced before.

    Most content is parsed as it is. It is repaired if it can contain NUL or deep nesting, which a parser may accept, or
    if `parse` raises one of `UNREADABLE_JSON`. Raises the error of `parse` for the repaired content.
    """
    if not (has_nul(content) or is_deep(content)):
        try:
            return parse(content), ()
        except UNREADABLE_JSON:
            pass
    repaired, fields = repair_json(content)
    return parse(repaired), fields


def repair_json(content: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return the content without values that cannot be held, and the fields that had one."""
    try:
        repair = _Repair(content.decode("utf-8", "surrogatepass"))
        return repair.run().encode(), repair.name_fields()
    except ValueError:  # neither UTF-8 nor JSON: the parser reports it
        return content, ()


def has_nul(content: bytes) -> bool:
    """Return whether the JSON can contain NUL, which a decoder may accept."""
    # One pass finds a backslash five times as fast as an escape sequence, and most events have none.
    return b"\\" in content and b"\\u0000" in content


def is_deep(content: bytes) -> bool:
    """Return whether a value in the JSON is nested deeper than `MAX_DEPTH`, which a decoder may accept."""
    if content.count(b"[") + content.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _TEXT_BYTES.sub(b"", content).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MAX_DEPTH


@dataclass(slots=True)
class _Container:
    """An open list or object, the one at `depth`; `key` is the last key of an object, as JSON text.

    The key is decoded once: a long key that is decoded for each replaced value would take quadratic time.
    """

    start: int
    is_object: bool
    depth: int
    key: str = '""'
    decoded_key: str | None = ""

    def read_key(self) -> str:
        """Return the last key as text."""
        if self.decoded_key is None:
            self.decoded_key = json.loads(self.key)
        return self.decoded_key


class _Repair:
    """One pass over the tokens of a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._pieces: list[str] = []
        self._end = 0
        self._open: list[_Container] = []
        # Those of them that are objects. No step may search all open containers: the repair would be quadratic.
        self._objects: list[_Container] = []
        # The index in `_open` of the container that is replaced as a whole.
        self._replaced: int | None = None
        # Each key is one object here, whose hash Python keeps. A new text for each value would take quadratic time.
        self._fields: dict[str, None] = {}

    def name_fields(self) -> tuple[str, ...]:
        """Return the names of the fields that had a replaced value."""
        return tuple(dict.fromkeys(_SURROGATE.sub(_UNKNOWN, field) for field in self._fields))

    def run(self) -> str:
        for token in _TOKEN.finditer(self._text):
            first = token[0][0]
            if first in "[{":
                self._open_container(token)
            elif first in "]}":
                self._close_container(token.end())
            elif self._replaced is None and first == '"':
                self._repair_text(token)
            elif self._replaced is None and _is_unbounded(token[0]):
                self._replace(token.start(), token.end(), "null")
        return "".join([*self._pieces, self._text[self._end :]])

    def _open_container(self, token: re.Match[str]) -> None:
        container = _Container(token.start(), token[0] == "{", len(self._open) + 1)
        self._open.append(container)
        if container.is_object:
            self._objects.append(container)
        if container.depth > MAX_DEPTH and self._replaced is None:
            kept = self._objects[:_KEPT_OBJECTS]
            self._replaced = kept[-1].depth if kept else 0

    def _close_container(self, end: int) -> None:
        if not self._open:
            raise ValueError("a bracket too many")
        container = self._open.pop()
        if container.is_object:
            self._objects.pop()
        if self._replaced == len(self._open):
            self._replaced = None
            self._replace(container.start, end, "null")

    def _repair_text(self, token: re.Match[str]) -> None:
        is_key = bool(token["colon"])
        if is_key and self._open:
            self._open[-1].key, self._open[-1].decoded_key = token["text"], None
        if not _REPLACEABLE.search(token["text"]):
            return
        text = json.loads(token["text"])
        field, is_inside = self._find_field()
        names_another = field in _IDENTIFIERS or (is_key and not is_inside)
        cleaned = _SURROGATE.sub(_UNKNOWN, text.replace("\0", _UNKNOWN if names_another else ""))
        if cleaned != text:
            self._replace(token.start(), token.end("text"), _encode(cleaned))

    def _replace(self, start: int, end: int, replacement: str) -> None:
        self._pieces += self._text[self._end : start], replacement
        self._end = end
        self._fields[self._find_field()[0]] = None

    def _find_field(self) -> tuple[str, bool]:
        """Return the user's field of the current value, and whether the value is inside an object of that field."""
        keys = [container.read_key() for container in self._objects[:_KEPT_OBJECTS]] or [""]
        first = next((n for n, key in enumerate(keys) if key not in _WRAPPERS), len(keys) - 1)
        return keys[first], len(self._objects) > first + 1


def _is_unbounded(number: str) -> bool:
    if number.lstrip("-").isdecimal():
        return len(number) > MAX_DIGITS
    try:
        return math.isinf(float(number))
    except ValueError:
        return False
