"""Paths in Clerk's JSON: keys, indexes of lists, and elements of a list by the value of a field (pure).

`external_accounts[provider=oauth_github].username` is the username of the first account with this provider. The value
in brackets is taken as it is, up to the `]`; double quotes around it are removed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

_TOKEN = re.compile(
    r"(?:^|\.)(?P<key>[^.\[\]\s]+)"
    r"|\[(?P<field>[^.\[\]\s=]+(?:\.[^.\[\]\s=]+)*)=(?P<value>[^\]]+)\]"
)


@dataclass(frozen=True, slots=True)
class Selector:
    """Selects the first element of a list whose `field`, a path of keys, has this value."""

    field: tuple[str, ...]
    value: str


Step: TypeAlias = str | Selector


def parse_path(text: str) -> tuple[Step, ...]:
    """Return the steps of a path. Raises `ValueError` if the text is none."""
    steps: list[Step] = []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            break
        steps.append(token["key"] or Selector(tuple(token["field"].split(".")), _strip_quotes(token["value"])))
        position = token.end()
    if position < len(text) or not steps or isinstance(steps[0], Selector):
        raise ValueError("is not a path")
    return tuple(steps)


def get_root_field(path: str) -> str:
    """Return the field of Clerk's user at the start of the path."""
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def follow_path(data: Any, steps: Sequence[Step]) -> Any:
    """Return the value at a path; None if the path does not exist."""
    value = data
    for step in steps:
        if isinstance(step, Selector):
            value = _select(value, step)
        elif isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _select(elements: Any, selector: Selector) -> Any:
    if not isinstance(elements, list):
        return None
    return next((element for element in elements if _has_value(element, selector)), None)


def _has_value(element: Any, selector: Selector) -> bool:
    value = follow_path(element, selector.field)
    if value is None or isinstance(value, str):
        return bool(value == selector.value)
    return msgspec.json.encode(value).decode() == selector.value


def _strip_quotes(value: str) -> str:
    is_quoted = len(value) > 2 and value[0] == value[-1] == '"'
    return value[1:-1] if is_quoted else value
