"""A value in the form that a column's type takes (pure): on its way into JSON, and SQL for what shows nobody."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from sync_service.mapping import sources
from sync_service.postgres.catalogue import Column

TIMES = frozenset({"timestamptz", "timestamp", "date"})
JSON = frozenset({"jsonb", "json"})


def is_particular(column: Column) -> bool:
    """Return whether `converted` may have something to do for the column."""
    return column.length is not None or column.base in TIMES or column.category in {"A", "N"}


def converted(value: Any, column: Column, *, cut: bool = True) -> tuple[Any, bool]:
    """Return a value of JSON in a form that the column's type takes, and whether something was cut off it.

    What is too long is cut, if it may be `cut`. What still does not fit is for PostgreSQL to refuse: the event is kept,
    with the column's name.
    """
    if value is None or column.base in JSON:
        return value, False
    if column.length is not None:
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return (text[: column.length], True) if cut and len(text) > column.length else (text, False)
    if column.base in TIMES and isinstance(value, int | float):
        value = _moment(value)
    elif column.category == "A" and not isinstance(value, list):
        value = [value]
    elif column.category == "N" and (isinstance(value, bool) or (isinstance(value, float) and value.is_integer())):
        value = int(value)  # JSON has one kind of number, and 5.0 is 5
    return value, False


def _moment(milliseconds: float) -> datetime | float:
    """Return Clerk's time; what is out of the calendar as it is, for PostgreSQL to refuse."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return milliseconds


def scrubbed(spec: sources.Column, column: Column, clerk_id: str = "") -> str | None:
    """Return SQL for what an anonymous row shows in a personal column; None if there is nothing that fits.

    `clerk_id` is the column with the Clerk ID, quoted.
    """
    if spec.source == sources.WHOLE and column.base in JSON:  # from which the table may generate its key
        return f"{column.base}_build_object('id', {clerk_id}::text)"
    if not column.not_null:
        return "null"
    if column.category == "A":
        return "'{}'"
    if spec.when_null is not None:
        return _standing_in(spec.when_null, column, clerk_id)
    if column.category == "S":  # the ID stays in the row in any case, and no two are the same
        return f"left({clerk_id}::text, {column.length or 255})"
    return "'{}'" if column.base in JSON else None


def _standing_in(when_null: Any, column: Column, clerk_id: str) -> str:
    if isinstance(when_null, str) and sources.PLACEHOLDER in when_null:
        return f"replace({literal(when_null)}, {literal(sources.PLACEHOLDER)}, {clerk_id}::text)"
    if isinstance(when_null, str) and column.base not in JSON:
        return literal(when_null)  # of no type until it is assigned: an enum's label, a time
    return literal(msgspec.json.encode(when_null).decode())


def literal(text: str) -> str:
    """Quote a text of the mapping: the only way by which one gets into SQL."""
    return "'" + text.replace("'", "''") + "'"
