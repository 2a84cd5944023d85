"""Checks of the tables for data from before sign-up, each with its correction (pure)."""

import re
from collections.abc import Iterator

from sync_service.doctor.column_fixes import widen_column
from sync_service.doctor.findings import Finding, Kind
from sync_service.doctor.foreign_key_fixes import add_foreign_key
from sync_service.doctor.grant_fixes import bypass_row_security, grant_schema, grant_sequence, grant_table
from sync_service.doctor.introspection import UnconstrainedColumn
from sync_service.doctor.required_columns import Fix
from sync_service.mapping.binding import find_key
from sync_service.mapping.carry_over import CarryOverTable
from sync_service.mapping.carry_over_checks import CarryOverTarget, find_blocking_issues, find_missing_privileges
from sync_service.mapping.introspection import Column, Table
from sync_service.mapping.issues import MappingIssue
from sync_service.mapping.table import TableMapping

# Words in the names of columns that grant rights.
_RIGHT = re.compile(r"(?:^|_)(?:roles?|permissions?|admin|superuser|staff|scopes?|tier|credits?|balance)(?:_|$)")

_BLOCKS = "POST /sync answers 503 to each carry-over with this table until it is corrected. Other logins work."
_NO_ROLL_BACK = "`carry-overs roll-back` finds each row by its primary key, and deletes it."
_REASONS = {
    **dict.fromkeys(("carry_over_table", "carry_over_user", "carry_over_column", "carry_over_privilege"), _BLOCKS),
    "carry_over_required": "The table refuses every row.",
    "carry_over_roll_back": _NO_ROLL_BACK,
    "carry_over_foreign_key": "Its rows stay when the user is deleted, although they belong to the user.",
    "carry_over_rights": "A visitor can choose any value.",
    "carry_over_row_security": "A row that a policy refuses or hides fails its carry-over.",
}


def report_missing_target(entry: CarryOverTable) -> Finding:
    """Return the finding that the table of an entry does not exist."""
    do = f"in sync.toml: correct table below [carry_over.{entry.name}], or remove this section"
    return _report_issue(
        entry, "carry_over_table", "wrong", f"{entry.table_name}: there is no such table", Fix(do=(do,))
    )


def check_target(mapping: TableMapping, users: Table, target: CarryOverTarget, role: str) -> Iterator[Finding]:
    """Yield the problems of one entry with its table. `role` is that of the service."""
    entry = target.entry
    key = users.column(find_key(mapping, users))
    issues = list(find_blocking_issues(target, mapping.id_column, key))
    for issue in issues:
        yield _report_issue(entry, issue.code, "wrong", str(issue), _find_fix(issue, target, role))
    if any(issue.code == "carry_over_table" for issue in issues):
        return
    yield from _check_required_columns(target)
    yield from _check_roll_back(target, role)
    if not any(issue.code == "carry_over_user" for issue in issues):
        yield from _check_foreign_key(mapping, users, key, target)
    yield from _check_safety(target, role)


def _find_fix(issue: MappingIssue, target: CarryOverTarget, role: str) -> Fix:
    table, section = target.table, f"[carry_over.{target.entry.name}]"
    column = table.column(issue.column)
    match issue.code:
        case "carry_over_privilege":
            return Fix(_grant_privilege(issue, target, role))
        case "carry_over_user" if column and column.category == "S" and column.length:
            return Fix((widen_column(table.schema, table.name, column.name),))
        case "carry_over_user":
            return Fix(do=(f"in sync.toml: correct user or clerk_id below {section}",))
        case "carry_over_column":
            return Fix(do=(f"in sync.toml: correct or remove {issue.column} in columns below {section}",))
        case _:
            return Fix(do=(f"in sync.toml: correct table below {section}, or remove this section",))


def _grant_privilege(issue: MappingIssue, target: CarryOverTarget, role: str) -> tuple[str, ...]:
    table = target.table
    if issue.name == target.entry.table_name:
        return grant_table(table, find_missing_privileges(table, {"INSERT", "SELECT"}), role)
    is_schema = issue.name == table.schema
    return (grant_schema(table.schema, role) if is_schema else grant_sequence(issue.name, role),)


def _check_required_columns(target: CarryOverTarget) -> Iterator[Finding]:
    for name in target.required_columns:
        what = f"{target.entry.table_name}.{name}: is NOT NULL, has no default, and a visitor may not fill it"
        do = (
            f"in sync.toml: add {name} to columns below [carry_over.{target.entry.name}], if visitors enter it",
            f"or give {name} a default in your app's schema",
        )
        yield _report_issue(target.entry, "carry_over_required", "wrong", what, Fix(do=do))


def _check_roll_back(target: CarryOverTarget, role: str) -> Iterator[Finding]:
    entry, table = target.entry, target.table
    if not table.primary_key:
        what = f"{entry.table_name}: has no primary key, so a carry-over with its rows cannot be rolled back"
        fix = Fix(do=(f"give {entry.table_name} a primary key in your app's schema",))
        yield _report_issue(entry, "carry_over_roll_back", "warning", what, fix)
    if find_missing_privileges(table, {"DELETE"}):
        what = f"{entry.table_name}: the role of DATABASE_URL may not DELETE, so no carry-over can be rolled back"
        fix = Fix(grant_table(table, ["DELETE"], role))
        yield _report_issue(entry, "carry_over_roll_back", "warning", what, fix)


def _check_foreign_key(
    mapping: TableMapping, users: Table, key: Column | None, target: CarryOverTarget
) -> Iterator[Finding]:
    entry, table = target.entry, target.table
    column = table.column(entry.user or entry.clerk_id)
    if column is None or any(set(entry.owner_columns) & set(key.columns) for key in target.user_keys):
        return
    child = _make_child(table, column)
    referenced = key.name if key and entry.user else mapping.id_column
    fix = Fix(do=(f"add a foreign key to {child.display_name} in your app's schema",))
    if mapping.on_delete == "cascade" and table.kind == "r" and users.is_unique_on(referenced):
        fix = Fix(add_foreign_key(child, users, referenced))
    what = f"{child.display_name}: has no foreign key to {mapping.name}"
    yield _report_issue(entry, "carry_over_foreign_key", "warning", what, fix)


def _make_child(table: Table, column: Column) -> UnconstrainedColumn:
    is_indexed = any(index.valid and not index.partial and index.keys[0] == column.name for index in table.indexes)
    return UnconstrainedColumn(
        schema=table.schema,
        table=table.name,
        partitioned=table.kind == "p",
        name=column.name,
        type=column.type,
        category=column.category,
        base=column.base,
        length=column.length,
        indexed=is_indexed,
        already_referenced=False,
    )


def _check_safety(target: CarryOverTarget, role: str) -> Iterator[Finding]:
    entry = target.entry
    for name in entry.columns:
        if _RIGHT.search(re.sub("([A-Z])", r"_\1", name).lower()):
            what = f"{entry.table_name}.{name}: looks like a right, and visitors write the value themselves"
            do = f"in sync.toml: remove {name} from columns below [carry_over.{entry.name}], unless it is harmless"
            yield _report_issue(entry, "carry_over_rights", "warning", what, Fix(do=(do,)))
    if target.table.row_security:
        what = f"{entry.table_name}: row-level security applies to the role of DATABASE_URL, and may refuse rows"
        yield _report_issue(entry, "carry_over_row_security", "warning", what, Fix((bypass_row_security(role),)))


def _report_issue(entry: CarryOverTable, code: str, kind: Kind, what: str, fix: Fix) -> Finding:
    data = {"entry": entry.name, "table": entry.table_name}
    return Finding(code=code, kind=kind, what=what, why=_REASONS[code], run=fix.run, do=fix.do, data=data)
