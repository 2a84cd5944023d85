"""A mapping bound to the table that exists: the form in which each column is written (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sync_service.clerk.change import Snapshot
from sync_service.mapping.coercion import TIME_TYPES, coerce_time, coerce_value, needs_coercion
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.introspection import Column, Table
from sync_service.mapping.table import Row, TableMapping
from sync_service.mapping.validation import blocking_issues

# A truncated value of these would identify another user, or none. PostgreSQL refuses it instead.
IDENTIFYING_FIELDS = frozenset({"id", "primary_email", "primary_phone", "username", "external_id"})


@dataclass(frozen=True, slots=True)
class BoundMapping:
    """A mapping that fits its table.

    `mapping` has only the columns that are written; generated columns and a preset's missing columns are left out.
    `column_types` describes each written column and the ID column. `key` is the application's primary key.
    `time_columns` take Clerk's milliseconds as a time. `coerced_columns` are the others that do not accept every JSON
    value as it is, each with whether it may be truncated.
    """

    mapping: TableMapping
    table: Table
    column_types: Mapping[str, Column]
    key: str
    time_columns: tuple[str, ...]
    coerced_columns: tuple[tuple[str, Column, bool], ...]

    @property
    def writes_id(self) -> bool:
        """Whether the ID is written, and not generated from another column."""
        return not self.column_types[self.mapping.id_column].generated

    @property
    def written_columns(self) -> list[str]:
        """The columns of an INSERT, the ID first."""
        return [*([self.mapping.id_column] if self.writes_id else []), *self.mapping.columns]

    def build_row(self, snapshot: Snapshot) -> tuple[Row, list[str]]:
        """Return the row in the form that the columns take, and the columns whose value was truncated."""
        row = self.mapping.build_row(snapshot)
        truncated: list[str] = []
        for name in self.time_columns:
            row[name] = coerce_time(row[name])
        for name, column, may_truncate in self.coerced_columns:
            row[name], was_truncated = coerce_value(row[name], column, may_truncate=may_truncate)
            if was_truncated:
                truncated.append(name)
        return row, truncated


def bind(mapping: TableMapping, table: Table | None) -> BoundMapping | list[str]:
    """Return the mapping bound to its table, or the reasons why it cannot be: sentences that begin with a name."""
    if table is None:
        hint = "; `sync-service migrate` creates it" if mapping.created_by else ""
        return [f"{mapping.name}: there is no such table{hint}"]
    if issues := [str(issue) for issue in blocking_issues(mapping, table)]:
        return issues
    columns = _select_columns(mapping, table)
    column_types = {column.name: column for column in table.columns if column.name in {mapping.id_column, *columns}}
    given = _select_given(columns, column_types)
    return BoundMapping(
        mapping=replace(mapping, columns=columns),
        table=table,
        column_types=column_types,
        key=find_key(mapping, table),
        time_columns=tuple(name for name, column in given.items() if column.base in TIME_TYPES),
        coerced_columns=_list_coerced_columns(columns, given),
    )


def find_key(mapping: TableMapping, table: Table) -> str:
    """Return the column by which the app knows a row: its primary key, or else that of the Clerk ID."""
    return table.primary_key[0] if len(table.primary_key) == 1 else mapping.id_column


def _select_given(fields: Mapping[str, FieldSource], types: Mapping[str, Column]) -> dict[str, Column]:
    """Return the columns whose values are given. PostgreSQL supplies the time of a write."""
    return {name: column for name, column in types.items() if name not in fields or not fields[name].is_now}


def _list_coerced_columns(
    fields: Mapping[str, FieldSource], types: Mapping[str, Column]
) -> tuple[tuple[str, Column, bool], ...]:
    return tuple(
        (name, column, name in fields and IDENTIFYING_FIELDS.isdisjoint(fields[name].sources))
        for name, column in types.items()
        if needs_coercion(column)
    )


def _select_columns(mapping: TableMapping, table: Table) -> dict[str, FieldSource]:
    """Return the fields of the columns that are written."""
    # Only generated columns read the extra keys of `$`.
    keep_extra_keys = any(column.generated for column in table.columns)
    fields = {}
    for name, field in mapping.columns.items():
        column = table.column(name)
        if column and not column.generated:
            fields[name] = _adapt_field(field, column, keep_extra_keys=keep_extra_keys)
    return fields


def _adapt_field(field: FieldSource, column: Column, *, keep_extra_keys: bool) -> FieldSource:
    """Return the field without its stand-in for null where a preset's column accepts null."""
    if field.optional and not column.not_null:
        field = replace(field, when_null=None)
    return field if keep_extra_keys else replace(field, extra_keys={})
