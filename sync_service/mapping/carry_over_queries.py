"""The SQL of carry-overs: a row of the app's table is inserted, found and removed (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass

from sync_service.mapping.binding import BoundMapping
from sync_service.mapping.carry_over import CarryOverTable
from sync_service.mapping.introspection import Table
from sync_service.mapping.table import TableMapping
from sync_service.postgres.sql import fill_gaps, quote_ident, quote_literal, quote_table, read_sql

# json_to_record() needs a column, and the table may have no column of this name.
_NO_DEFINITION = "nothing text"


@dataclass(frozen=True, slots=True)
class RemovalQueries:
    """The statements about one row, which take its primary key as JSON."""

    remove: str
    exists: str


def render_user_lock(mapping: TableMapping) -> str:
    """Return the statement that locks the row of a user."""
    gaps = {"table": quote_table(mapping.schema, mapping.table), "id_column": quote_ident(mapping.id_column)}
    return fill_gaps(read_sql(__package__, "lock_user.sql"), gaps)


def render_insert(entry: CarryOverTable, table: Table, users: BoundMapping, given: Sequence[str]) -> str:
    """Return the statement that inserts one row with these columns; the others get their defaults."""
    id_column = quote_ident(users.mapping.id_column)
    sources = {name: f"given.{quote_ident(name)}" for name in given}
    if entry.user is not None:
        sources[entry.user] = f"app.{quote_ident(users.key)}"
    if entry.clerk_id is not None:
        sources[entry.clerk_id] = f"app.{id_column}"
    gaps = {
        "table": quote_table(table.schema, table.name),
        "columns": ", ".join(map(quote_ident, sources)),
        "values": ", ".join(sources.values()),
        "users": quote_table(users.mapping.schema, users.mapping.table),
        "definitions": _render_definitions(table, given) or _NO_DEFINITION,
        "id_column": id_column,
        "key": _render_key(table),
    }
    return fill_gaps(read_sql(__package__, "carry_over_row.sql"), gaps)


def build_removal_queries(table: Table, key: Sequence[str]) -> RemovalQueries:
    """Return the statements for rows that these columns identify."""
    gaps = {
        "table": quote_table(table.schema, table.name),
        "definitions": _render_definitions(table, key),
        "matches": " and ".join(f"written.{quote_ident(name)} = known.{quote_ident(name)}" for name in key),
    }
    remove, exists = (
        fill_gaps(read_sql(__package__, name), gaps) for name in ("remove_carried_row.sql", "find_carried_row.sql")
    )
    return RemovalQueries(remove, exists)


def _render_definitions(table: Table, names: Sequence[str]) -> str:
    types = {column.name: column.type for column in table.columns}
    return ", ".join(f"{quote_ident(name)} {types[name]}" for name in names)


def _render_key(table: Table) -> str:
    pairs = (f"{quote_literal(name)}, written.{quote_ident(name)}" for name in table.primary_key)
    return f"jsonb_build_object({', '.join(pairs)})" if table.primary_key else "null::jsonb"
