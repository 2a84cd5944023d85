"""Statements that create indexes, and the query for the values that prevent a unique one (pure)."""

from collections.abc import Sequence

from sync_service.doctor.fixes import alter_table, choose_name
from sync_service.mapping.introspection import Table
from sync_service.postgres.sql import quote_ident, quote_table


def create_unique_index(table: Table, column: str) -> tuple[str, ...]:
    """Return the statements that make a column unique; they first drop the invalid index of a failed attempt."""
    broken = [index.name for index in table.indexes if not index.valid and index.keys == (column,)]
    drops = [f"drop index concurrently {quote_table(table.schema, name)};" for name in broken]
    taken = {index.name for index in table.indexes} - set(broken)
    name = choose_name([table.name, column, "key"], taken)
    target = quote_table(table.schema, table.name)
    return (*drops, f"create unique index concurrently {quote_ident(name)} on {target} ({quote_ident(column)});")


def create_lower_index(table: Table, column: str) -> str:
    """Return the statement that creates an index on the lower-case form of a column."""
    name = choose_name([table.name, column, "lower", "idx"], {index.name for index in table.indexes})
    target = quote_table(table.schema, table.name)
    return f"create index concurrently {quote_ident(name)} on {target} (lower({quote_ident(column)}));"


def set_replica_identity(table: Table, column: str) -> str:
    """Return the statement that lets updates be published: by a unique index on the column, else by the whole row."""
    found = table.column(column)
    usable = (i.name for i in table.indexes if i.unique and i.valid and not i.partial and i.keys == (column,))
    index = next(usable, None) if found and found.not_null else None
    action = f"replica identity using index {quote_ident(index)}" if index else "replica identity full"
    return alter_table(table.schema, table.name, action)


def create_index(schema: str, table: str, columns: Sequence[str]) -> str:
    """Return the statement that creates an index on these columns."""
    listed = ", ".join(map(quote_ident, columns))
    name = choose_name([table, *columns, "idx"], set())
    return f"create index concurrently {quote_ident(name)} on {quote_table(schema, table)} ({listed});"


def list_duplicates(table: Table, column: str) -> str:
    """Return the query that lists the values which several rows have in a column."""
    return _DUPLICATES_SQL.format(column=quote_ident(column), table=quote_table(table.schema, table.name))


_DUPLICATES_SQL = """\
select {column}, count(*) from {table}
where {column} is not null
group by {column} having count(*) > 1;"""
