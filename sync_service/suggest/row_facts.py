"""SQL for the facts about the rows of a table: counts and categories, never a value of a person (pure)."""

from sync_service.mapping.coercion import JSON_TYPES, TIME_TYPES
from sync_service.mapping.introspection import Column, Table
from sync_service.postgres.sql import quote_ident, quote_table
from sync_service.suggest.names import CATEGORIES, has_word
from sync_service.suggest.times import is_creation_name

MAX_LABELS = 20
# A larger table is sampled by blocks from all over it: its first rows are its oldest ones.
MAX_BYTES_READ = 1024 * 1024


def render_sample(table: Table) -> str:
    """Return the table for a FROM clause, reduced to random blocks if it is large."""
    name = quote_table(table.schema, table.name)
    if table.bytes <= MAX_BYTES_READ:
        return name
    return f"{name} tablesample system ({100 * MAX_BYTES_READ / table.bytes:.6f})"


def _find_creation(table: Table) -> str | None:
    """Return the column with the time of the row's creation."""
    return next((c.name for c in table.columns if is_creation_name(c.name) and c.base in TIME_TYPES), None)


def render_facts(table: Table, references: frozenset[str]) -> list[str]:
    """Return SQL for the facts about each column. `references` are the columns with a foreign key."""
    created = _find_creation(table)
    return [_render_column(column, references, created) for column in table.columns]


def _render_column(column: Column, references: frozenset[str], created: str | None) -> str:
    name = quote_ident(column.name)
    later, labels = "0", "json_build_object()"
    if created and created != column.name and column.base in TIME_TYPES:
        later = f"count(*) filter (where {name} > {quote_ident(created)} + interval '1 second')"
    if label := _render_label(column, references):
        # A number that only one row has may describe a person.
        rare = " having count(*) > 1" if column.category == "N" and not has_word(column.name, CATEGORIES) else ""
        groups = f"from sample where {name} is not null group by 1{rare} order by 2 desc"
        counts = f"{label} as label, count(*) as n {groups}"
        frequent = f"(select {counts} limit {MAX_LABELS}) as frequent"
        labels = f"coalesce((select json_object_agg(label, n) from {frequent}), '{{}}')"  # noqa: S608  quoted names
    return f"json_build_object('values', count({name}), 'later', {later}, 'labels', {labels})"


def _render_label(column: Column, references: frozenset[str]) -> str | None:
    """Return the SQL of the category of a value; None for a column whose values may be personal."""
    name = quote_ident(column.name)
    if column.base in JSON_TYPES:
        return f"{column.base}_typeof({name})"
    is_category = column.category in {"B", "E"} or column.name in references
    is_amount = column.category == "N" and column.not_null and not column.has_default
    if is_category or is_amount or (column.category == "S" and has_word(column.name, CATEGORIES)):
        return f"{name}::text"
    return None
