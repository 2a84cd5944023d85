"""A JSON value of a visitor, and the kinds of values that a column takes (pure)."""

from decimal import Decimal, InvalidOperation

from sync_service.mapping.coercion import JSON_TYPES
from sync_service.mapping.introspection import Column

_INTEGERS = frozenset({"int2", "int4", "int8"})

# The kinds of JSON values, besides texts and null, that a column of a category takes. A text passes through the type.
# Others take every kind, because only PostgreSQL knows their types.
_KINDS = {
    "N": frozenset({"number"}),
    "B": frozenset({"boolean"}),
    "A": frozenset({"array"}),
    "C": frozenset({"object"}),
    **dict.fromkeys("SDTEIGR", frozenset[str]()),
}
_KINDS_BY_START = {"{": "object", "[": "array", "t": "boolean", "f": "boolean", "n": "null", '"': "text"}


def can_hold_value(column: Column, value: str) -> bool:
    """Return whether the column takes this kind of JSON value. PostgreSQL would write an object into a text column."""
    kind = _find_kind(value)
    if column.base in JSON_TYPES or kind in {"null", "text"}:
        return True
    kinds = _KINDS.get(column.category)
    return kinds is None or kind in kinds


def adapt_value(column: Column, value: str) -> str:
    """Return the JSON value, and for an integer column 5.0 as 5: JSON has one type of numbers."""
    if column.base in _INTEGERS and _find_kind(value) == "number":
        number = _parse_number(value)
        if number == number.to_integral_value():
            return str(int(number))
    return value


def _parse_number(text: str) -> Decimal:
    """Return the number; a zero for one whose exponent Decimal cannot hold: JSON readers take it as zero too."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal(0)


def _find_kind(value: str) -> str:
    return _KINDS_BY_START.get(value[0], "number")
