"""The correction of each issue between the users table and its mapping (pure)."""

from sync_service.clerk.entities import USER
from sync_service.doctor.column_fixes import (
    add_column,
    widen_column,
)
from sync_service.doctor.grant_fixes import bypass_row_security, grant_schema, grant_sequence, grant_table
from sync_service.doctor.hints import Hints
from sync_service.doctor.index_fixes import create_lower_index, create_unique_index, set_replica_identity
from sync_service.doctor.introspection import Server
from sync_service.doctor.link_fixes import LinkFix, copy_links
from sync_service.doctor.required_columns import Fix, fill_column, replace_null
from sync_service.mapping.computed_values import WHOLE_USER
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.introspection import Table
from sync_service.mapping.issues import MappingIssue, find_similar_column
from sync_service.mapping.table import TableMapping
from sync_service.mapping.validation import find_missing_privileges

# The column for the Clerk ID if the mapped column has another type.
NEW_ID_COLUMN = "clerk_user_id"

# Entries of sync.toml that cannot work with the table.
_ENTRIES = {
    "generated_column": "remove {} below [{section}.columns]",
    "mapped_key": "correct or remove {} below [{section}.columns]",
    "wrong_value": "correct or remove {} below [{section}.columns]",
    "wrong_mark": "correct {} below [{section}.deleted]",
    "wrong_link_key": "link_by_external_id = false",
}


def find_fix(issue: MappingIssue, mapping: TableMapping, table: Table, server: Server, hints: Hints) -> Fix:
    """Return the statements and the changes of sync.toml that correct an issue; both are empty if none can."""
    column = issue.column or ""
    match issue.code:
        case "missing_clerk_id" | "wrong_clerk_id_type" | "missing_unique_index" | "short_clerk_id":
            fix = _fix_clerk_id(issue.code, mapping, table, column, hints.link)
        case "missing_column":
            fix = _add_column(table, column, mapping.columns[column])
        case "missing_deleted_at" | "missing_mark":
            fix = _add_column(table, column, mapping.deletion_marks[column])
        case "no_index_for_linking":
            fix = Fix((create_lower_index(table, column),))
        case "rules" | "no_replica_identity" | "session_default":
            fix = _remove_obstacle(issue, mapping, table)
        case "not_null_unfilled":
            fix = fill_column(table, column, hints)
        case "not_null_for_some" | "not_scrubbed":
            fix = replace_null(table, mapping.columns[column], column, hints)
        case code if code in _ENTRIES:
            fix = Fix(do=(f"in sync.toml: {_ENTRIES[code].format(column, section=mapping.kind.section)}",))
        case _:
            fix = Fix(_grant_privilege(issue, mapping, table, server.role))
    return fix


def _add_column(table: Table, name: str, source: FieldSource) -> Fix:
    similar = find_similar_column(table, name)
    do = (f"if you mean {similar.name}, write this name in sync.toml; otherwise add the column",) if similar else ()
    return Fix((add_column(table.schema, table.name, name, _choose_type(source)),), do)


def _remove_obstacle(issue: MappingIssue, mapping: TableMapping, table: Table) -> Fix:
    match issue.code:
        case "rules":
            return Fix(do=(f"drop these rules of {mapping.name}, or replace them with triggers",))
        case "no_replica_identity":
            return Fix((set_replica_identity(table, mapping.id_column),))
        case _:
            return Fix(do=(f"give {issue.name} a default without current_setting(), or map it in sync.toml",))


def _grant_privilege(issue: MappingIssue, mapping: TableMapping, table: Table, role: str) -> tuple[str, ...]:
    match issue.code:
        case "no_privilege":
            return grant_table(table, find_missing_privileges(mapping, table), role)
        case "no_schema_privilege":
            return (grant_schema(table.schema, role),)
        case "no_sequence_privilege":
            return (grant_sequence(issue.name, role),)
        case "row_security":
            return (bypass_row_security(role),)
        case _:  # no statement corrects a view or a column of the wrong type
            return ()


def _fix_clerk_id(code: str, mapping: TableMapping, table: Table, column: str, link: LinkFix | None) -> Fix:
    if mapping.entity != USER.name and code in {"missing_clerk_id", "wrong_clerk_id_type"}:
        return Fix(do=(f"in sync.toml: correct {mapping.kind.id_key} below [{mapping.kind.section}]",))
    if code == "short_clerk_id":
        return Fix((widen_column(table.schema, table.name, column),))
    if table.kind == "p":
        why = "in a partitioned table, a unique index must include the partition key"
        return Fix(do=(f"in sync.toml: name a table without partitions; {why}",))
    if code == "missing_unique_index":
        return Fix(create_unique_index(table, column))
    if code == "missing_clerk_id":
        return _add_clerk_id(table, column, link)
    return Fix(_prepare_id_column(table, NEW_ID_COLUMN, None), (f'in sync.toml: clerk_id = "{NEW_ID_COLUMN}"',))


def _add_clerk_id(table: Table, name: str, link: LinkFix | None) -> Fix:
    similar = find_similar_column(table, name)
    if similar and similar.category == "S" and "clerk" in similar.name.lower():
        return Fix(do=(f'in sync.toml: clerk_id = "{similar.name}"; or add a column {name} to the table',))
    return Fix(_prepare_id_column(table, name, link))


def _prepare_id_column(table: Table, name: str, link: LinkFix | None) -> tuple[str, ...]:
    """Return the statements that add a column for the Clerk ID, copy known IDs, and make it unique."""
    run: tuple[str, ...] = ()
    if not table.column(name):
        run += (add_column(table.schema, table.name, name, "text"),)
        run += copy_links(link, table, name) if link else ()
    if not table.identifies_by(name):
        run += create_unique_index(table, name)
    return run


def _choose_type(source: FieldSource) -> str:
    if source.is_now or source.generate in {"uuid4", "uuid7"}:
        return "timestamptz" if source.is_now else "uuid"
    if source.equals is not None:
        return "boolean"
    if source.source is None:
        types = {bool: "boolean", int: "bigint", float: "double precision"}
        return types.get(type(source.constant), "text")
    if source.source in {"primary_email_verified", "banned", "locked"}:
        return "boolean"
    if source.source.endswith("_at"):
        return "timestamptz"
    return "jsonb" if source.source == WHOLE_USER or source.source.endswith("_metadata") else "text"
