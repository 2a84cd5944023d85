"""Statements that add or validate a foreign key, and the query for rows without a user (pure)."""

from collections.abc import Sequence

from sync_service.doctor.fixes import alter_with_parent, choose_name
from sync_service.doctor.index_fixes import create_index
from sync_service.doctor.introspection import ForeignKey, UnconstrainedColumn
from sync_service.mapping.introspection import Table
from sync_service.postgres.sql import quote_ident, quote_table


def validate_constraint(schema: str, table: str, name: str) -> str:
    """Return the statement that checks the rows older than the constraint; it blocks neither reads nor writes."""
    return f"alter table {quote_table(schema, table)} validate constraint {quote_ident(name)};"


def add_foreign_key(column: UnconstrainedColumn, table: Table, referenced_column: str) -> tuple[str, ...]:
    """Return the statements that add a foreign key to the users table, after an index if none exists."""
    name = choose_name([column.table, column.name, "fkey"], set())
    index = () if column.indexed else (create_index(column.schema, column.table, [column.name]),)
    child, parent = quote_table(column.schema, column.table), quote_table(table.schema, table.name)
    action = (
        f"add constraint {quote_ident(name)} foreign key ({quote_ident(column.name)})"
        f" references {parent} ({quote_ident(referenced_column)}) on delete cascade not valid"
    )
    added = alter_with_parent(child, parent, action)
    return (*index, added, validate_constraint(column.schema, column.table, name))


def list_orphans_of_key(key: ForeignKey) -> str:
    """Return the query that lists the child rows without a parent row."""
    child, parent = quote_table(key.schema, key.table), quote_table(key.parent_schema, key.parent_table)
    return _list_orphans(child, key.columns, parent, key.parent_columns)


def list_orphans_of_column(column: UnconstrainedColumn, table: Table, referenced_column: str) -> str:
    """Return the query that lists the rows without an existing user."""
    child = quote_table(column.schema, column.table)
    return _list_orphans(child, [column.name], quote_table(table.schema, table.name), [referenced_column])


def _list_orphans(child: str, columns: Sequence[str], parent: str, parent_columns: Sequence[str]) -> str:
    pairs = zip(columns, parent_columns, strict=True)
    return _ORPHANS_SQL.format(
        child=child,
        parent=parent,
        not_null=" and ".join(f"child.{quote_ident(name)} is not null" for name in columns),
        condition=" and ".join(f"parent.{quote_ident(theirs)} = child.{quote_ident(ours)}" for ours, theirs in pairs),
    )


_ORPHANS_SQL = """\
select child.* from {child} as child
where {not_null}
and not exists (select from {parent} as parent where {condition});"""
