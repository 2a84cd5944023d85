"""SQL for the values that a statement writes to the columns: on insert, on update, and the time of a change (pure)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sync_service.mapping.binding import BoundMapping
from sync_service.mapping.coercion import render_when_null
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.introspection import Column
from sync_service.mapping.validation import find_unfilled_columns
from sync_service.postgres.sql import quote_ident, quote_literal

# SQL of new values, by the unquoted name of the column.
Values = Mapping[str, str]

# Types and categories that have an equality operator. Values of other types are compared as texts.
_COMPARABLE_CATEGORIES = "SNBDE"
_COMPARED_AS = {"json": "::jsonb", "jsonb": "", "uuid": ""}


@dataclass(frozen=True, slots=True)
class Assignments:
    """The parts of apply_changes.sql that depend on how each column is written.

    `given` is SQL for a user's row in JSON, in the statement's own terms.
    """

    bound: BoundMapping
    given: str

    @property
    def inserted_values(self) -> str:
        """The values of a new row, in the order of the columns."""
        columns = self.bound.mapping.columns
        values = (self._render_inserted(name, columns.get(name)) for name in self.bound.written_columns)
        return ", ".join(values)

    def _render_inserted(self, name: str, field: FieldSource | None) -> str:
        column = self.bound.column_types[name]
        if field and field.is_now:
            return render_now(column)
        if field and field.keep_on_null and (default := _render_default(field, column)):
            return f"coalesce(r.{quote_ident(name)}, {default})"
        return f"r.{quote_ident(name)}"

    @property
    def definitions(self) -> str:
        """The columns that an insert reads from the user's row in JSON."""
        columns = self.bound.mapping.columns
        return self._define(
            name for name in self.bound.written_columns if name not in columns or not columns[name].is_now
        )

    @property
    def updated_definitions(self) -> str:
        """The columns that an update reads. A value that is written on insert only cannot refuse an update."""
        columns = self.bound.mapping.columns
        updated = [name for name in self.bound.written_columns if name not in columns or _is_updated(columns[name])]
        return self._define(updated or self.bound.written_columns)

    @property
    def shows_content(self) -> str:
        """Whether the row `theirs` has the values of `r` in the columns that each update writes."""
        theirs, ours = (
            ", ".join(f"{row}.{quote_ident(name)}" for name in self._shown_columns) for row in ("theirs", "r")
        )
        return f"to_jsonb(row({theirs})) = to_jsonb(row({ours}))"

    @property
    def differing_columns(self) -> str:
        """The names of the same columns, each one null if the row `theirs` has the value of `r`."""
        return ", ".join(
            f"case when to_jsonb(theirs.{quote_ident(name)}) is distinct from to_jsonb(r.{quote_ident(name)})"
            f" then {quote_literal(name)} end"
            for name in self._shown_columns
        )

    @property
    def _shown_columns(self) -> list[str]:
        columns = self.bound.mapping.columns
        return [name for name, field in columns.items() if _is_updated(field) and not field.keep_on_null]

    def _define(self, names: Iterable[str]) -> str:
        return ", ".join(f"{quote_ident(name)} {self._get_type(name)}" for name in names)

    def _get_type(self, name: str) -> str:
        """Return the type in which a value is read. A domain may refuse the null that is replaced later."""
        column, field = self.bound.column_types[name], self.bound.mapping.columns.get(name)
        return column.plain_type if field and field.keep_on_null else column.type

    def render_updates(self, row: str) -> str:
        """Return the assignments of an update from `r`, the row in JSON, or from `excluded`, the row of the insert."""
        return render_assignments(self.bound, self._list_updates(row), "app.")

    @property
    def old_values(self) -> str:
        """The values of the row `app` that an update replaces."""
        return ", ".join(f"app.{quote_ident(name)}" for name in self._list_updates("excluded"))

    def render_new_values(self, row: str) -> str:
        """Return the values that replace them, in their order and of their types; `row` as in `render_updates`."""
        values = self._list_updates(row)
        return ", ".join(f"({value})::{self.bound.column_types[name].type}" for name, value in values.items())

    def _list_updates(self, row: str) -> Values:
        columns = self.bound.mapping.columns
        values = {name: self._render_updated(name, field, row) for name, field in columns.items() if _is_updated(field)}
        if not values:
            # Only a written row is returned, so one column is written as it is.
            name = self.bound.written_columns[0]
            values = {name: f"{row}.{quote_ident(name)}" if self.bound.writes_id else f"app.{quote_ident(name)}"}
        return values

    def _render_updated(self, name: str, field: FieldSource, row: str) -> str:
        column, quoted = self.bound.column_types[name], quote_ident(name)
        if not field.keep_on_null:
            return f"{row}.{quoted}"
        if row == "r" or not _render_default(field, column):
            return f"coalesce({row}.{quoted}, app.{quoted})"
        # `excluded` has the default in place of null, so the value is read again. This is rare: existing rows are
        # updated by a step of their own, and only a row that the app inserted at the same moment comes here.
        return (
            f"coalesce((select r.{quoted} from newest"  # noqa: S608  quoted names
            f" cross join lateral jsonb_to_record({self.given}) as r ({self._define([name])})"
            f" where newest.clerk_id = excluded.{quote_ident(self.bound.mapping.id_column)}::text), app.{quoted})"
        )


def needs_update_first(bound: BoundMapping) -> bool:
    """Return whether existing rows need an UPDATE, because an INSERT could be refused before it finds its conflict.

    That is so with a required column that no mapping fills, with null or an unsuitable value for a column that is
    written on insert only, and with a column that shows its default in place of null.
    """
    columns = bound.mapping.columns
    if not columns:
        return False
    if find_unfilled_columns(bound.mapping, bound.table):
        return True
    return any(_can_refuse_insert(field, bound.column_types[name]) for name, field in columns.items())


def _can_refuse_insert(field: FieldSource, column: Column) -> bool:
    if field.insert_only:
        return bool(field.sources)
    return field.keep_on_null and (column.not_null or _render_default(field, column) is not None)


def _render_default(field: FieldSource, column: Column) -> str | None:
    """Return SQL for the value of a new row in place of null; None if that is null."""
    if field.when_null is None:
        return column.expression
    return render_when_null(field.when_null, column, "newest.clerk_id")


def _is_updated(field: FieldSource) -> bool:
    return not (field.insert_only or field.is_now)


def render_assignments(bound: BoundMapping, values: Values, row: str = "") -> str:
    """Return the assignments, with the time of the change where the mapping has such a column.

    `row` is the prefix of the table's own columns: `app.` or nothing.
    """
    assignments = dict(values)
    times = [name for name, field in bound.mapping.columns.items() if field.is_change_time and name not in values]
    if times:
        is_changed = " or ".join(
            _render_distinct(bound.table.column(name), value, row) for name, value in values.items()
        )
        for name in times:
            now = render_now(bound.column_types[name])
            assignments[name] = f"case when {is_changed} then {now} else {row}{quote_ident(name)} end"
    return ", ".join(f"{quote_ident(name)} = {value}" for name, value in assignments.items())


def _render_distinct(column: Column | None, value: str, row: str) -> str:
    assert column is not None  # noqa: S101  every assigned column is a column of the table
    cast = _COMPARED_AS.get(column.base, "" if column.category in _COMPARABLE_CATEGORIES else "::text")
    return f"{row}{quote_ident(column.name)}{cast} is distinct from ({value}){cast}"


def render_now(column: Column) -> str:
    """Return SQL for the time of the statement's transaction in the column's type."""
    match column.base:
        case "timestamp":
            return "(now() at time zone 'utc')"
        case "date":
            return "(now() at time zone 'utc')::date"
        case _:
            return "now()"
