"""The correction of each issue between the users table and its mapping (pure)."""

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
from sync_service.mapping.issues import MappingIssue
from sync_service.mapping.table import TableMapping
from sync_service.mapping.validation import find_missing_privileges

# The column for the Clerk ID if the mapped column has another type.
NEW_ID_COLUMN = "clerk_user_id"

# Entries of sync.toml that cannot work with the table.
_ENTRIES = {
    "generated_column": "remove {} below [users.columns]",
    "mapped_key": "correct or remove {} below [users.columns]",
    "wrong_value": "correct or remove {} below [users.columns]",
    "wrong_mark": "correct {} below [users.deleted]",
    "wrong_link_key": "link_by_external_id = false",
}


def find_fix(issue: MappingIssue, mapping: TableMapping, table: Table, server: Server, hints: Hints) -> Fix:
    """Return the statements and the changes of sync.toml that correct an issue; both are empty if none can."""
    column = issue.column or ""
    match issue.code:
        case "missing_clerk_id" | "wrong_clerk_id_type" | "missing_unique_index" | "short_clerk_id":
            fix = _fix_clerk_id(issue.code, table, column, hints.link)
        case "missing_column":
            fix = Fix((add_column(table.schema, table.name, column, _choose_type(mapping.columns[column])),))
        case "missing_deleted_at" | "missing_mark":
            fix = Fix((add_column(table.schema, table.name, column, _choose_type(mapping.deletion_marks[column])),))
        case "no_index_for_linking":
            fix = Fix((create_lower_index(table, column),))
        case "rules" | "no_replica_identity" | "session_default":
            fix = _remove_obstacle(issue, mapping, table)
        case "not_null_unfilled":
            fix = fill_column(table, column, hints)
        case "not_null_for_some" | "not_scrubbed":
            fix = replace_null(table, mapping.columns[column], column, hints)
        case code if code in _ENTRIES:
            fix = Fix(do=(f"in sync.toml: {_ENTRIES[code].format(column)}",))
        case _:
            fix = Fix(_grant_privilege(issue, mapping, table, server.role))
    return fix


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


def _fix_clerk_id(code: str, table: Table, column: str, link: LinkFix | None) -> Fix:
    if code == "short_clerk_id":
        return Fix((widen_column(table.schema, table.name, column),))
    if table.kind == "p":
        why = "in a partitioned table, a unique index must include the partition key"
        return Fix(do=(f"in sync.toml: name a table without partitions; {why}",))
    if code == "missing_unique_index":
        return Fix(create_unique_index(table, column))
    id_column = column if code == "missing_clerk_id" else NEW_ID_COLUMN
    run: tuple[str, ...] = ()
    if not table.column(id_column):
        run += (add_column(table.schema, table.name, id_column, "text"),)
    if link and not table.column(id_column):
        run += copy_links(link, table, id_column)
    if not table.identifies_rows_by(id_column):
        run += create_unique_index(table, id_column)
    return Fix(run, () if id_column == column else (f'in sync.toml: clerk_id = "{id_column}"',))


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
