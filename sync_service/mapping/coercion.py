"""Conversion of values to a column's type: of JSON values, and of anonymous values as SQL (pure)."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from sync_service.mapping.computed_values import WHOLE_USER
from sync_service.mapping.fields import PLACEHOLDER, FieldSource
from sync_service.mapping.introspection import Column
from sync_service.postgres.sql import quote_literal

TIME_TYPES = frozenset({"timestamptz", "timestamp", "date"})
JSON_TYPES = frozenset({"jsonb", "json"})


def needs_coercion(column: Column) -> bool:
    """Return whether `coerce_value` can change a value for this column; times have `coerce_time`."""
    return column.length is not None or column.category in {"A", "N"}


def coerce_value(value: Any, column: Column, *, may_truncate: bool = True) -> tuple[Any, bool]:
    """Return a JSON value in the form of the column's type, and whether it was truncated.

    A text that is too long is truncated if `may_truncate` is set. PostgreSQL rejects any other unsuitable value; the
    event is then parked with the column's name.
    """
    if value is None or column.base in JSON_TYPES:
        return value, False
    if column.length is not None:
        return _coerce_text(value, column.length, may_truncate=may_truncate)
    return _coerce_by_type(value, column), False


def _coerce_text(value: Any, max_length: int, *, may_truncate: bool) -> tuple[str, bool]:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if may_truncate and len(text) > max_length:
        return text[:max_length], True
    return text, False


def _coerce_by_type(value: Any, column: Column) -> Any:
    if column.category == "A" and not isinstance(value, list):
        return [value]
    if column.category == "N" and _is_integral(value):
        return int(value)
    return value


def _is_integral(value: Any) -> bool:
    """Return whether an integer column takes the value as int(value): JSON has one number type, so 5.0 is 5."""
    return isinstance(value, bool) or (isinstance(value, float) and value.is_integer())


def coerce_time(milliseconds: Any) -> Any:
    """Return Clerk's timestamp as a time. Another value stays as it is, and PostgreSQL rejects what is no time."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, (int, float)):
        return milliseconds
    try:
        return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return milliseconds


def scrub_expression(field: FieldSource, column: Column, clerk_id: str = "") -> str | None:
    """Return SQL for the value of a personal column in an anonymous row; None if no value fits the type.

    `clerk_id` is the quoted name of the column with the Clerk ID.
    """
    if field.source == WHOLE_USER and column.base in JSON_TYPES:  # the table may generate its key from this JSON
        return f"{column.base}_build_object('id', {clerk_id}::text)"
    if not column.not_null:
        return "null"
    if column.category == "A":
        return "'{}'"
    if field.when_null is not None:
        return render_when_null(field.when_null, column, clerk_id)
    if column.category == "S":  # the Clerk ID is unique and stays in the row anyway
        return f"left({clerk_id}::text, {column.length or 255})"
    return "'{}'" if column.base in JSON_TYPES else None


def render_when_null(when_null: Any, column: Column, clerk_id: str) -> str:
    """Return SQL for the replacement of null. `clerk_id` is SQL for the Clerk ID."""
    if isinstance(when_null, str) and PLACEHOLDER in when_null:
        return f"replace({quote_literal(when_null)}, {quote_literal(PLACEHOLDER)}, {clerk_id}::text)"
    if isinstance(when_null, str) and column.base not in JSON_TYPES:
        return quote_literal(
            when_null
        )  # PostgreSQL assigns the type of an untyped quote_literal later: an enum label, a time
    return quote_literal(msgspec.json.encode(when_null).decode())
