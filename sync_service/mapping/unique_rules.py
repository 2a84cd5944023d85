"""Unique rules of a table for values that Clerk gives to one user only, such as the email (pure)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sync_service.mapping.binding import BoundMapping
from sync_service.mapping.computed_values import EXCLUSIVE_SOURCES
from sync_service.mapping.introspection import Column, Index, Table, refers_to
from sync_service.mapping.table import TableMapping
from sync_service.postgres.sql import quote_ident


@dataclass(frozen=True, slots=True)
class UniqueRule:
    """An index that refuses two rows with one value. `column` is the mapped column with the value."""

    index: Index
    column: str


def list_unique_rules(mapping: TableMapping, table: Table) -> Iterator[UniqueRule]:
    """Yield the unique rules on values that Clerk gives to one user only; not those on the Clerk ID."""
    columns = _list_exclusive_columns(mapping, table)
    for index in table.indexes:
        if not is_comparable(index) or any(refers_to(key, mapping.id_column) for key in index.keys):
            continue
        column = next((name for name in columns if covers(table, index, name)), None)
        if column:
            yield UniqueRule(index, column)


def _list_exclusive_columns(mapping: TableMapping, table: Table) -> list[str]:
    """Return the written columns with such a value, in the order in which a row gives one up."""
    written = {column.name for column in table.columns if not column.generated}
    return [
        name
        for source in EXCLUSIVE_SOURCES
        for name, field in mapping.columns.items()
        if field.is_exclusive and field.source == source and name in written
    ]


def is_comparable(index: Index) -> bool:
    """Return whether the index refuses rows, and its operators are known."""
    return index.exclusive and index.valid and len(index.operators) == len(index.keys)


def covers(table: Table, index: Index, name: str) -> bool:
    """Return whether a key of the index depends on the column, directly or through a generated column."""
    return any(refers_to(part, name) for key in index.keys for part in (key, _expand(table, key)))


def render_find_holder(bound: BoundMapping, rule: UniqueRule) -> dict[str, str]:
    """Return the gaps of find_holder.sql."""
    table, keys = bound.table, [quote_key(bound.table, key) for key in rule.index.keys]
    wanted = [_expand(table, key) for key in rule.index.keys]
    columns = [column for column in table.columns if any(refers_to(key, column.name) for key in wanted)]
    return {
        "column": quote_ident(rule.column),
        "wanted_keys": _name_keys(wanted),
        "held_keys": _name_keys(keys),
        "same_keys": " and ".join(_compare_keys(rule.index)),
        "predicate": rule.index.predicate or "true",
        "base": ", ".join(_render_base(bound, column) for column in columns),
        "definitions": ", ".join(_define_given(bound, columns)),
    }


def _define_given(bound: BoundMapping, columns: Sequence[Column]) -> Iterator[str]:
    """Yield the names and types of the columns that the row in JSON has."""
    for column in columns:
        field = bound.mapping.columns.get(column.name)
        if field and not field.is_now:
            yield f"{quote_ident(column.name)} {column.type}"


def quote_key(table: Table, key: str) -> str:
    """Return a key as SQL: the quoted name of a column, or an expression in parentheses."""
    return quote_ident(key) if table.column(key) else f"({key})"


def _expand(table: Table, key: str) -> str:
    """Return a key with the expression in place of a generated column."""
    column = table.column(key)
    if column and column.generated and column.expression:
        return f"({column.expression})"
    return quote_key(table, key)


def _render_base(bound: BoundMapping, column: Column) -> str:
    """Return the value of a column in the row that is to be saved: mapped, or of the user's row, or the default."""
    name, field = quote_ident(column.name), bound.mapping.columns.get(column.name)
    if field is None or field.is_now:
        updated, inserted = f"own.{name}", column.expression
    elif field.keep_on_null:
        default = column.expression or "null"
        updated, inserted = f"coalesce(r.{name}, own.{name})", f"coalesce(r.{name}, {default})"
    else:
        updated, inserted = f"r.{name}", f"r.{name}"
    if field and field.insert_only:
        updated = f"own.{name}"
    if inserted is None or inserted == updated:
        return updated
    exists = f"own.{quote_ident(bound.mapping.id_column)} is not null"
    return f"case when {exists} then {updated} else {inserted} end as {name}"


def _name_keys(keys: Sequence[str]) -> str:
    return ", ".join(f"{key} as key_{n}" for n, key in enumerate(keys, 1))


def _compare_keys(index: Index) -> Iterator[str]:
    for n, (operator, collation) in enumerate(zip(index.operators, index.collations, strict=True), 1):
        wanted = f"(wanted.key_{n} collate {collation})" if collation else f"wanted.key_{n}"
        same = f"held.key_{n} {operator} {wanted}"
        both_null = f"held.key_{n} is null and wanted.key_{n} is null"
        yield f"({same} or ({both_null}))" if index.nulls_not_distinct else same
