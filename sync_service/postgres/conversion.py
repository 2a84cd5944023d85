"""Conversion of values to a column's type: of JSON values, and of anonymous values as SQL (pure)."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from sync_service.mapping import sources
from sync_service.postgres.catalogue import Column

TIMES = frozenset({"timestamptz", "timestamp", "date"})
JSON = frozenset({"jsonb", "json"})


def is_particular(column: Column) -> bool:
    """Return whether `converted` can change a value for this column."""
    return column.length is not None or column.base in TIMES or column.category in {"A", "N"}


def converted(value: Any, column: Column, *, cut: bool = True) -> tuple[Any, bool]:
    """Return a JSON value converted to the column's type, and whether its end was cut off.

    A text that is too long is cut if `cut` is set. PostgreSQL refuses any other unsuitable value; the event is then
    parked with the column's name.
    """
    if value is None or column.base in JSON:
        return value, False
    if column.length is not None:
        return _convert_text(value, column.length, cut=cut)
    return _convert_value(value, column), False


def _convert_text(value: Any, max_length: int, *, cut: bool) -> tuple[str, bool]:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if cut and len(text) > max_length:
        return text[:max_length], True
    return text, False


def _convert_value(value: Any, column: Column) -> Any:
    if column.base in TIMES and isinstance(value, int | float):
        return _convert_time(value)
    if column.category == "A" and not isinstance(value, list):
        return [value]
    if column.category == "N" and _is_integral(value):
        return int(value)
    return value


def _is_integral(value: Any) -> bool:
    """Return whether an integer column takes the value as int(value): JSON has one number type, so 5.0 is 5."""
    return isinstance(value, bool) or (isinstance(value, float) and value.is_integer())


def _convert_time(milliseconds: float) -> datetime | float:
    """Return Clerk's timestamp as a time. A number outside the calendar stays a number, and PostgreSQL refuses it."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return milliseconds


def scrubbed(spec: sources.Column, column: Column, clerk_id: str = "") -> str | None:
    """Return SQL for the value of a personal column in an anonymous row; None if no value fits the type.

    `clerk_id` is the quoted name of the column with the Clerk ID.
    """
    if spec.source == sources.WHOLE and column.base in JSON:  # the table may generate its key from this JSON
        return f"{column.base}_build_object('id', {clerk_id}::text)"
    if not column.not_null:
        return "null"
    if column.category == "A":
        return "'{}'"
    if spec.when_null is not None:
        return _render_when_null(spec.when_null, column, clerk_id)
    if column.category == "S":  # the Clerk ID is unique and stays in the row anyway
        return f"left({clerk_id}::text, {column.length or 255})"
    return "'{}'" if column.base in JSON else None


def _render_when_null(when_null: Any, column: Column, clerk_id: str) -> str:
    if isinstance(when_null, str) and sources.PLACEHOLDER in when_null:
        return f"replace({literal(when_null)}, {literal(sources.PLACEHOLDER)}, {clerk_id}::text)"
    if isinstance(when_null, str) and column.base not in JSON:
        return literal(when_null)  # PostgreSQL assigns the type of an untyped literal later: an enum label, a time
    return literal(msgspec.json.encode(when_null).decode())


def literal(text: str) -> str:
    """Return a text of the mapping as an SQL literal. No other function puts such a text into SQL."""
    return "'" + text.replace("'", "''") + "'"
