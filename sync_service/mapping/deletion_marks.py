"""SQL that marks the row of a deleted user, and that removes the marks again (pure).

To remove a mark, a time becomes null and a boolean its opposite. Any other value, such as a status, becomes the value
that the row had before the deletion, which `clerk_sync.deletion_marks` keeps; without one, the mapping's constant or
the default of the column.
"""

import json
from collections.abc import Iterator

from sync_service.mapping.assignments import render_assignments, render_now
from sync_service.mapping.binding import BoundMapping
from sync_service.mapping.coercion import JSON_TYPES, TIME_TYPES
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.introspection import Column
from sync_service.postgres.sql import quote_ident, quote_literal


def list_marks(bound: BoundMapping) -> dict[str, str]:
    """Return the values that mark a deleted user's row, as SQL by column. The first time of a deletion stays."""
    return {column.name: _render_mark(bound, field, column) for column, field in _iterate_marks(bound)}


def render_unmark(bound: BoundMapping, values_before: str) -> str:
    """Return the assignments that remove the marks; `values_before` is SQL for the values before the deletion.

    Without a mark that can be removed, the ID is assigned to itself.
    """
    values = {}
    for column, field in _iterate_marks(bound):
        if value := _render_unmark(bound, field, column, values_before):
            values[column.name] = value
    id_column = bound.mapping.id_column
    return render_assignments(bound, values or {id_column: quote_ident(id_column)})


def keeps_values(bound: BoundMapping) -> bool:
    """Return whether a mark replaces a value that cannot be derived from the mark."""
    return any(_is_kept(bound, column) for column, _ in _iterate_marks(bound))


def can_unmark_linked(bound: BoundMapping) -> bool:
    """Return whether a row that this service has marked may be linked: after the app has removed its Clerk ID."""
    mapping = bound.mapping
    return bool(list_marks(bound)) and mapping.links_rows


def render_kept_values(bound: BoundMapping) -> str:
    """Return SQL for the values before the deletion, as a JSON object."""
    kept = (column.name for column, _ in _iterate_marks(bound) if _is_kept(bound, column))
    return f"jsonb_build_object({', '.join(f'{quote_literal(name)}, {quote_ident(name)}' for name in kept)})"


def _iterate_marks(bound: BoundMapping) -> Iterator[tuple[Column, FieldSource]]:
    for name, field in bound.mapping.deletion_marks.items():
        if column := bound.table.column(name):
            yield column, field


def _is_kept(bound: BoundMapping, column: Column) -> bool:
    """Return whether the value before the mark is kept. The next event brings a value of Clerk's again."""
    is_from_clerk = column.name in bound.mapping.columns and bound.mapping.columns[column.name].is_personal
    return not is_from_clerk and column.base not in TIME_TYPES | {"bool"}


def _render_mark(bound: BoundMapping, field: FieldSource, column: Column) -> str:
    if not field.is_now:
        return render_literal(field.constant, column)
    if column.base == "bool":
        return "true"
    is_change_time = column.name in bound.mapping.columns and bound.mapping.columns[column.name].is_change_time
    return render_now(column) if is_change_time else f"coalesce({quote_ident(column.name)}, {render_now(column)})"


def _render_unmark(bound: BoundMapping, field: FieldSource, column: Column, values_before: str) -> str | None:
    """Return the value without the mark; None if the column keeps its value."""
    if column.base == "bool":
        return "true" if field.constant is False else "false"
    if column.base in TIME_TYPES:
        return None if column.not_null else "null"
    name, mark = quote_ident(column.name), render_literal(field.constant, column)
    before = f"nullif({values_before} ->> {quote_literal(column.name)}, {mark}::text)::{column.plain_type}"
    if column.base in JSON_TYPES:
        before = f"nullif({values_before} -> {quote_literal(column.name)}, {mark}::jsonb)::{column.base}"
    values = [before, *_list_defaults(bound, column)]
    if column.not_null:
        values.append(name)
    # The app may have given the row another value since.
    return f"case when {name}::text = ({mark}::{column.type})::text then coalesce({', '.join(values)}) else {name} end"


def _list_defaults(bound: BoundMapping, column: Column) -> Iterator[str]:
    field = bound.mapping.columns.get(column.name)
    if field and field.constant is not None:
        yield render_literal(field.constant, column)
    if column.expression and not column.generated:
        yield column.expression


def render_literal(value: object, column: Column) -> str:
    """Return a constant as SQL. PostgreSQL gives an untyped literal the type of the column: an enum, a number."""
    if isinstance(value, str) and column.base not in JSON_TYPES:
        return quote_literal(value)
    if isinstance(value, bool) and column.category == "N":
        value = int(value)
    return quote_literal(json.dumps(value))
