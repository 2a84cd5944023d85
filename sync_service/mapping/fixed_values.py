"""Checks whether a constant or a generated value fits its column, before any user is affected (pure)."""

import re
from datetime import datetime

from sync_service.mapping.coercion import JSON_TYPES, TIME_TYPES
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.generators import KeyFormat, parse_key_format
from sync_service.mapping.introspection import Column

_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_NUMBER = re.compile(r"\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?\s*", re.IGNORECASE)
_TYPES_OF_BOOLEANS = "BNS"


def find_misfit(field: FieldSource, column: Column) -> str | None:
    """Return why the column refuses the value that the mapping itself supplies, or None: the end of a sentence."""
    if field.is_now:
        return None if column.base in TIME_TYPES else f'is {column.type}, and `generate = "now"` needs a time'
    if field.generate is not None:
        return _find_misfit_of_key(parse_key_format(field.generate), field.generate, column)
    if field.equals is not None:
        is_fit = column.category in _TYPES_OF_BOOLEANS or column.base in JSON_TYPES
        return None if is_fit else f"is {column.type}, and `equals` gives true or false"
    if not field.sources:
        return _find_misfit_of_constant(field.constant, column)
    return None if field.when_null is None else _find_misfit_of_stand_in(field.when_null, column)


def _find_misfit_of_key(key: KeyFormat, generate: str, column: Column) -> str | None:
    if column.base == "uuid":
        return None if key.is_uuid else f"is uuid, and {generate} gives no uuid; use uuid4 or uuid7"
    if column.category != "S":
        hint = "; leave the column out, and its default fills it" if column.has_default else ""
        return f"is {column.type}, and {generate} gives a text{hint}"
    if column.length is not None and column.length < key.length:
        return f"is {column.type}, and {generate} gives {key.length} characters"
    return None


def _find_misfit_of_stand_in(when_null: object, column: Column) -> str | None:
    """Return why the column refuses a value that replaces null. A text that is too long is cut."""
    is_fit = when_null in column.labels if column.category == "E" else _can_hold(when_null, column)
    return None if is_fit else f"is {column.type}, and cannot hold the `when_null` {when_null!r}"


def _find_misfit_of_constant(value: object, column: Column) -> str | None:
    if column.category == "E":
        if value in column.labels:
            return None
        return f"is {column.type}, which has no label {value!r}; its labels are {', '.join(column.labels)}"
    if column.category == "S" and column.length is not None and len(str(value)) > column.length:
        return f"is {column.type}, and the constant has {len(str(value))} characters"
    return None if _can_hold(value, column) else f"is {column.type}, and cannot hold the constant {value!r}"


def _is_time(value: object) -> bool:
    """Return whether the value is a time in ISO 8601, or Clerk's milliseconds."""
    if not isinstance(value, str):
        return isinstance(value, int | float) and not isinstance(value, bool)
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _can_hold(value: object, column: Column) -> bool:
    is_text = isinstance(value, str)
    if column.base == "uuid":
        return is_text and bool(_UUID.fullmatch(str(value)))
    if column.base in TIME_TYPES:
        return _is_time(value)
    match column.category:
        case "B":
            return isinstance(value, bool)
        case "N":
            return isinstance(value, int | float) or (is_text and bool(_NUMBER.fullmatch(str(value))))
        case _:
            return True
