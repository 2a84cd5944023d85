"""Validation of a mapping against its table: issues of all users, and issues of some users (pure)."""

from collections.abc import Iterator

from sync_service.mapping.column_checks import check_columns, check_marks
from sync_service.mapping.introspection import Table
from sync_service.mapping.issues import MappingIssue, report_missing_column
from sync_service.mapping.obstacles import (
    MAX_UNINDEXED_BYTES,
    find_link_column_without_index,
    find_refusing_rules,
    list_session_defaults,
)
from sync_service.mapping.table import TableMapping
from sync_service.postgres.sql import quote_ident, quote_table

# Today Clerk's IDs have 32 characters.
MIN_ID_LENGTH = 32

_LINKED_KEY_TYPES = frozenset({"uuid", "int2", "int4", "int8"})

# `doctor` removes this part, because it prints the statement itself.
DOCTOR_HINT = "; `sync-service doctor` prints the statement that creates it"


def blocking_issues(mapping: TableMapping, table: Table) -> Iterator[MappingIssue]:
    """Yield the issues that affect every user. With any of them, the service does not write to the table."""
    if table.kind not in {"r", "p"}:
        yield MappingIssue("not_a_table", mapping.name, "is a view or a foreign table; name the table behind it")
        return
    yield from _check_clerk_id(mapping, table)
    yield from check_columns(mapping, table)
    yield from check_marks(mapping, table)
    yield from _check_linking(mapping, table)
    yield from _check_external_id_link(mapping, table)
    yield from _check_privileges(mapping, table)


def _check_privileges(mapping: TableMapping, table: Table) -> Iterator[MappingIssue]:
    if not table.schema_usable:
        why = "the role of DATABASE_URL may not use this schema; grant usage on it"
        yield MappingIssue("no_schema_privilege", mapping.schema, why)
    for sequence in table.inaccessible_sequences:
        why = f"the role of DATABASE_URL may not draw defaults of {mapping.name} from it; grant usage on it"
        yield MappingIssue("no_sequence_privilege", sequence, why)
    if missing := find_missing_privileges(mapping, table):
        why = f"the role of DATABASE_URL may not {', '.join(missing)}; grant it"
        yield MappingIssue("no_privilege", mapping.name, why)
    if table.row_security:
        why = "row-level security hides rows from the role of DATABASE_URL; it needs BYPASSRLS"
        yield MappingIssue("row_security", mapping.name, why)


def find_missing_privileges(mapping: TableMapping, table: Table) -> list[str]:
    """Return the privileges on the table that the mapping needs and the role lacks."""
    needed = {"SELECT", "INSERT", "UPDATE"}
    if mapping.on_delete == "cascade":
        needed.add("DELETE")
    return sorted(needed - table.privileges)


def _check_linking(mapping: TableMapping, table: Table) -> Iterator[MappingIssue]:
    column = find_link_column_without_index(mapping, table)
    if column and table.bytes > MAX_UNINDEXED_BYTES:
        target, name = quote_table(table.schema, table.name), quote_ident(column)
        why = (
            "link_by_verified_email would search this large table for each new user; run"
            f" create index concurrently on {target} (lower({name}));"
        )
        yield MappingIssue("no_index_for_linking", f"{mapping.name}.{column}", why, column)


def _check_external_id_link(mapping: TableMapping, table: Table) -> Iterator[MappingIssue]:
    key = table.column(table.primary_key[0]) if len(table.primary_key) == 1 else None
    is_usable = key and key.name != mapping.id_column and (key.category == "S" or key.base in _LINKED_KEY_TYPES)
    if mapping.link_by_external_id and not is_usable:
        why = (
            "link_by_external_id needs a primary key of one column, a text, an integer or a uuid, beside the column of"
            " the Clerk ID; set it to false"
        )
        yield MappingIssue("wrong_link_key", mapping.name, why)


def _check_clerk_id(mapping: TableMapping, table: Table) -> Iterator[MappingIssue]:
    name = f"{mapping.name}.{mapping.id_column}"
    column = table.column(mapping.id_column)
    if column is None:
        purpose = "; it must hold the Clerk ID"
        yield report_missing_column("missing_clerk_id", mapping, table, mapping.id_column, purpose)
    elif column.category != "S":
        why = f"is {column.type}, which cannot hold a Clerk ID (user_…); name a column of text"
        yield MappingIssue("wrong_clerk_id_type", name, why, column.name)
    elif column.length is not None and column.length < MIN_ID_LENGTH:
        why = f"is {column.type}, too short for a Clerk ID, which has {MIN_ID_LENGTH} characters or more"
        yield MappingIssue("short_clerk_id", name, why, column.name)
    elif not table.identifies_by(mapping.id_column):
        why = f"has no unique index{DOCTOR_HINT}"
        yield MappingIssue("missing_unique_index", name, why, column.name)


def partial_issues(mapping: TableMapping, table: Table) -> Iterator[MappingIssue]:
    """Yield the issues that affect some users; their events are parked."""
    yield from _check_obstacles(mapping, table)
    for name in find_unfilled_columns(mapping, table):
        why = f"is NOT NULL, has no default, and no mapping fills it: no {mapping.entity} can be inserted"
        yield MappingIssue("not_null_unfilled", f"{mapping.name}.{name}", why, name)
    for name, field in mapping.columns.items():
        column = table.column(name)
        if column is None or not column.not_null or column.generated or not field.can_be_null:
            continue
        if not (field.keep_on_null and column.has_default):
            sources = " and no ".join(field.sources)
            why = f"is NOT NULL, and a Clerk {mapping.entity} may have no {sources}: set a `when_null` for it"
            yield MappingIssue("not_null_for_some", f"{mapping.name}.{name}", why, name)


def _check_obstacles(mapping: TableMapping, table: Table) -> Iterator[MappingIssue]:
    if rules := find_refusing_rules(mapping, table):
        why = f"has rules ({', '.join(rules)}), and PostgreSQL refuses ON CONFLICT and WITH on such a table"
        yield MappingIssue("rules", mapping.name, why)
    if table.blocking_publications:
        names = ", ".join(table.blocking_publications)
        why = f"has no replica identity, but its updates are published ({names}), so PostgreSQL refuses them"
        yield MappingIssue("no_replica_identity", mapping.name, why)
    for column in list_session_defaults(mapping, table):
        why = f"gets its default from a setting of the session ({column.expression}), which the service does not set"
        yield MappingIssue("session_default", f"{mapping.name}.{column.name}", why, column.name)


def find_unfilled_columns(mapping: TableMapping, table: Table) -> list[str]:
    """Return the NOT NULL columns that neither the mapping nor the database fills in a new row."""
    filled = {mapping.id_column, *mapping.columns}
    return [column.name for column in table.columns if column.needs_value and column.name not in filled]
