"""Obstacles in the app's schema: rules, defaults from session settings, linking without an index (pure)."""

import re

from sync_service.mapping.introspection import Column, Index, Table, refers_to
from sync_service.mapping.table import TableMapping

# A larger table is not searched for an email without an index: one search would take longer than 20 ms.
MAX_UNINDEXED_BYTES = 2 * 1024 * 1024


def find_refusing_rules(mapping: TableMapping, table: Table) -> list[str]:
    """Return the names of the rules because of which PostgreSQL refuses the service's statements."""
    refused = {"update", "insert"} | ({"delete"} if mapping.on_delete == "cascade" else set())
    return [name for name, event in table.rules.items() if event in refused]


def list_session_defaults(mapping: TableMapping, table: Table) -> list[Column]:
    """Return the columns that no mapping always fills and whose default needs a setting of the app's session."""
    mapped = {mapping.id_column, *(name for name, field in mapping.columns.items() if not field.keep_on_null)}
    return [column for column in table.columns if column.name not in mapped and _reads_session_setting(column)]


def _reads_session_setting(column: Column) -> bool:
    """Return whether the default fails, or is null in a required column, without a setting of the app's session."""
    expression = "" if column.generated else (column.expression or "")
    has_fallback = re.search(r"current_setting\([^()]*, true\)", expression)
    return "current_setting(" in expression and (column.not_null or not has_fallback)


def find_link_column_without_index(mapping: TableMapping, table: Table) -> str | None:
    """Return the column by which rows are linked if no index finds its lower-case form."""
    names = (name for name, source in mapping.columns.items() if source.shows_email)
    email = next((name for name in names if table.column(name)), None)
    if not mapping.link_by_verified_email or email is None:
        return None
    return None if any(_can_find_lower(index, email) for index in table.indexes) else email


def _can_find_lower(index: Index, column: str) -> bool:
    key = index.keys[0]
    return index.valid and not index.partial and key.startswith("lower(") and refers_to(key, column)
