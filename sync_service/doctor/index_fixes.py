"""Statements that create indexes, and the query for the values that prevent a unique one (pure)."""

from collections.abc import Sequence

from sync_service.doctor.fixes import choose_name
from sync_service.doctor.quoting import quote_qualified, quote_table
from sync_service.postgres.catalogue import Table
from sync_service.postgres.statements import quoted


def create_unique_index(table: Table, column: str) -> tuple[str, ...]:
    """Return the statements that make a column unique; they first drop the invalid index of a failed attempt."""
    broken = [index.name for index in table.indexes if not index.valid and index.keys == (column,)]
    drops = [f"drop index concurrently {quote_qualified(table.schema, name)};" for name in broken]
    taken = {index.name for index in table.indexes} - set(broken)
    name = choose_name([table.name, column, "key"], taken)
    return (*drops, f"create unique index concurrently {quoted(name)} on {quote_table(table)} ({quoted(column)});")


def create_lower_index(table: Table, column: str) -> str:
    """Return the statement that creates an index on the lower-case form of a column."""
    name = choose_name([table.name, column, "lower", "idx"], {index.name for index in table.indexes})
    return f"create index concurrently {quoted(name)} on {quote_table(table)} (lower({quoted(column)}));"


def create_index(schema: str, table: str, columns: Sequence[str]) -> str:
    """Return the statement that creates an index on these columns."""
    listed = ", ".join(map(quoted, columns))
    name = choose_name([table, *columns, "idx"], set())
    return f"create index concurrently {quoted(name)} on {quote_qualified(schema, table)} ({listed});"


def list_duplicates(table: Table, column: str) -> str:
    """Return the query that lists the values which several rows have in a column."""
    return _DUPLICATES_SQL.format(column=quoted(column), table=quote_table(table))


_DUPLICATES_SQL = """\
select {column}, count(*) from {table}
where {column} is not null
group by {column} having count(*) > 1;"""
