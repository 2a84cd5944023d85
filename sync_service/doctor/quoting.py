"""Quoted names of tables for SQL (pure)."""

from sync_service.postgres.catalogue import Table
from sync_service.postgres.statements import quoted


def quote_qualified(schema: str, table: str) -> str:
    """Return a table's name with its schema, both quoted."""
    return f"{quoted(schema)}.{quoted(table)}"


def quote_table(table: Table) -> str:
    """Return the name of a table from the catalogue with its schema, both quoted."""
    return quote_qualified(table.schema, table.name)
