"""The correction of a column that requires a value (pure).

NOT NULL stays, because the app relies on it. A line of `sync.toml` fills the column as the app's ORM does, or a default
does.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from sync_service.doctor.column_fixes import set_key_default, set_time_default
from sync_service.doctor.hints import Hints
from sync_service.mapping.coercion import TIME_TYPES
from sync_service.mapping.fields import PLACEHOLDER, FieldSource
from sync_service.mapping.introspection import Column, Table
from sync_service.mapping.presets import PLACEHOLDER_EMAIL
from sync_service.suggest.toml_syntax import render_entry

_PLACE = "in sync.toml, below [users.columns]:"


class Fix(Struct, frozen=True):
    """`run` are statements for the database, `do` are changes of sync.toml."""

    run: tuple[str, ...] = ()
    do: tuple[str, ...] = ()


def fill_column(table: Table, name: str, hints: Hints) -> Fix:
    """Return the line that fills the column in a new row, else a default for a key or a time, else the choices."""
    if spec := hints.find_spec(name):
        return Fix(do=(f"{_PLACE} {render_entry(name, spec)}",))
    column = table.column(name)
    if column and (statements := _set_default(table, column)):
        return Fix(statements)
    constant = f'{name} = {{ constant = …, write = "insert" }}'
    return Fix(
        do=(
            f"{_PLACE} {constant}, with the value that your app gives to a new user",
            f"or give {name} a default in your app's schema",
        )
    )


def _set_default(table: Table, column: Column) -> tuple[str, ...]:
    if column.name in table.primary_key:
        return set_key_default(table, column)
    return (set_time_default(table, column.name),) if column.base in TIME_TYPES else ()


def replace_null(table: Table, source: FieldSource, name: str, hints: Hints) -> Fix:
    """Return the line with a value for users that have none."""
    spec = hints.find_spec(name)
    if isinstance(spec, Mapping) and "when_null" in spec and _list_sources(spec) == source.sources:
        return Fix(do=(f"{_PLACE} {render_entry(name, spec)}",))
    given: Any = list(source.sources) if source.fallbacks else source.source
    column = table.column(name)
    if column and column.category != "S":
        line = render_entry(name, {"from": given, "when_null": "…"}).replace('"…"', "…")
        return Fix(do=(f"{_PLACE} {line}, with a value of {column.type} that your app accepts",))
    return Fix(do=(f"{_PLACE} {render_entry(name, {'from': given, 'when_null': _choose_text(table, source, name)})}",))


def _choose_text(table: Table, source: FieldSource, name: str) -> str:
    if source.source == "primary_email":
        return PLACEHOLDER_EMAIL
    is_unique = any(index.unique and name in index.keys for index in table.indexes)
    return PLACEHOLDER if source.source == "id" or is_unique else ""


def _list_sources(spec: Mapping[str, Any]) -> tuple[str, ...]:
    given = spec.get("from", ())
    return (given,) if isinstance(given, str) else tuple(given)
