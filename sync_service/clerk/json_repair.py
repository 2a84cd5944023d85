"""JSON with values that PostgreSQL or a decoder cannot hold → JSON without them (pure).

NUL is dropped from texts and a lone surrogate becomes U+FFFD. A number beyond the decoder's range and a value that is
nested deeper than `MAX_DEPTH` become null. The rest keeps its bytes.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
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

_TOKEN = re.compile(r'(?P<text>"(?:[^"\\]|\\.)*")(?=\s*(?P<colon>:?))|-?[0-9][0-9.eE+-]*|[\[\]{}]', re.DOTALL)
_REPLACEABLE = re.compile("\\\\u0000|\\\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNKNOWN = "\ufffd"


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
        return repair.run().encode(), tuple(repair.fields)
    except ValueError:  # neither UTF-8 nor JSON: the parser reports it
        return content, ()


def has_nul(content: bytes) -> bool:
    """Return whether the JSON can contain NUL, which a decoder may accept."""
    # One pass finds a backslash five times as fast as an escape sequence, and most events have none.
    return b"\\" in content and b"\\u0000" in content


def is_deep(content: bytes) -> bool:
    """Return whether a value in the JSON can be nested deeper than `MAX_DEPTH`, which a decoder may accept."""
    return content.count(b"[") + content.count(b"{") > MAX_DEPTH


@dataclass(slots=True)
class _Container:
    """An open list or object; `key` is the last key of an object, as JSON text."""

    start: int
    is_object: bool
    key: str = '""'


class _Repair:
    """One pass over the tokens of a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._pieces: list[str] = []
        self._end = 0
        self._open: list[_Container] = []
        # The index in `_open` of the container that is replaced as a whole.
        self._replaced: int | None = None
        self.fields: dict[str, None] = {}

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
        self._open.append(_Container(token.start(), token[0] == "{"))
        if len(self._open) > MAX_DEPTH and self._replaced is None:
            objects = [n for n, container in enumerate(self._open) if container.is_object][:_KEPT_OBJECTS]
            self._replaced = objects[-1] + 1 if objects else 0

    def _close_container(self, end: int) -> None:
        if not self._open:
            raise ValueError("a bracket too many")
        container = self._open.pop()
        if self._replaced == len(self._open):
            self._replaced = None
            self._replace(container.start, end, "null")

    def _repair_text(self, token: re.Match[str]) -> None:
        is_key = bool(token["colon"])
        if is_key and self._open:
            self._open[-1].key = token["text"]
        if not _REPLACEABLE.search(token["text"]):
            return
        text = json.loads(token["text"])
        path = self._path()
        names_another = path[0] in _IDENTIFIERS or (is_key and len(path) == 1)
        cleaned = _SURROGATE.sub(_UNKNOWN, text.replace("\0", _UNKNOWN if names_another else ""))
        if cleaned != text:
            self._replace(token.start(), token.end("text"), json.dumps(cleaned, ensure_ascii=False))

    def _replace(self, start: int, end: int, replacement: str) -> None:
        self._pieces += self._text[self._end : start], replacement
        self._end = end
        self.fields[_SURROGATE.sub(_UNKNOWN, self._path()[0])] = None

    def _path(self) -> list[str]:
        """Return the keys from the user's field to the current value."""
        keys = [json.loads(container.key) for container in self._open if container.is_object]
        while len(keys) > 1 and keys[0] in _WRAPPERS:
            del keys[0]
        return keys or [""]


def _is_unbounded(number: str) -> bool:
    if number.lstrip("-").isdecimal():
        return len(number) > MAX_DIGITS
    try:
        return math.isinf(float(number))
    except ValueError:
        return False
