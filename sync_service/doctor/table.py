"""Checks of the users table against its mapping; each finding has the statement that corrects it (pure)."""

from collections.abc import Iterator

from sync_service.clerk.entities import USER
from sync_service.doctor.findings import Finding, Kind
from sync_service.doctor.hints import Hints
from sync_service.doctor.introspection import Server
from sync_service.doctor.link_fixes import LinkFix
from sync_service.doctor.required_columns import Fix
from sync_service.doctor.table_fixes import find_fix
from sync_service.mapping.introspection import Table
from sync_service.mapping.issues import MappingIssue
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table import TableMapping
from sync_service.mapping.validation import DOCTOR_HINT, blocking_issues, partial_issues

_REASONS = {
    "not_a_table": "sync-service uses ON CONFLICT to write two simultaneous events to one row. A view or a foreign"
    " table cannot guarantee that.",
    "missing_clerk_id": "The Clerk ID identifies a user. No event is applied until a column holds it.",
    "wrong_clerk_id_type": "This type refuses an ID such as `user_…`. Keep the column, and add another one for the"
    " Clerk ID.",
    "short_clerk_id": "A Clerk ID does not fit, so its user cannot be identified.",
    "missing_unique_index": "Without it, two simultaneous events create two rows for one user. No event is applied"
    " until it exists.",
    "missing_column": "No event is applied until the mapping and the table agree.",
    "not_scrubbed": "An anonymized row must not show personal data. No event is applied until the column allows this.",
    "missing_deleted_at": "A soft deletion sets this column. No event is applied until it exists.",
    "wrong_deleted_at": "A soft deletion sets this column. No event is applied until its type allows this.",
    "missing_mark": "A deletion sets this column. No event is applied until it exists.",
    "wrong_mark": "A deletion sets this column. No event is applied until its type and the value agree.",
    "generated_column": "PostgreSQL refuses such a write. No event is applied until the mapping leaves the column out.",
    "wrong_value": "PostgreSQL would refuse every new user. No event is applied until the type and the value agree.",
    "mapped_key": "Other tables refer to a row by its key, so an existing row must keep it. No event is applied until"
    " the mapping is correct.",
    "wrong_link_key": "A user's external ID must be the key of exactly one row. No event is applied until the setting"
    " is correct.",
    "rules": "Every event is parked with the reason row_not_written until the rules are gone.",
    "no_replica_identity": "Every update of a user is parked until the table has a replica identity.",
    "session_default": "Events of new users are parked: the setting exists only in the sessions of your app.",
    "no_index_for_linking": "PostgreSQL would search the whole table for each new user. No event is applied until the"
    " index exists.",
    "no_privilege": "No event is applied without this privilege.",
    "no_schema_privilege": "No event is applied without this privilege.",
    "no_sequence_privilege": "No new user can be inserted without this privilege.",
    "row_security": "sync-service cannot see a hidden row and inserts it a second time.",
    "not_null_unfilled": "Your app fills this column itself when it creates a user, and the service cannot run the code"
    " of your app. Events of new users are parked until a line of sync.toml or a default fills it.",
    "not_null_for_some": "The events of such users are parked. A user with only a phone number has no email, and many"
    " users have no names.",
}


def report_missing_table(mapping: TableMapping) -> Finding:
    """Return the finding that the table does not exist."""
    section = mapping.kind.section
    fix = Fix(do=(f"create the table, or correct or remove [{section}] in sync.toml",))
    if mapping.entity == USER.name:
        fix = Fix(("sync-service migrate" if mapping.created_by else "sync-service mapping suggest",))
    return Finding(
        code="missing_table",
        kind="wrong",
        what=f"{mapping.name}: there is no such table",
        why=f"sync-service has no table to write {section} to.",
        run=fix.run,
        do=fix.do,
        data={"table": mapping.name},
    )


def check_table(mapping: TableMapping, table: Table, server: Server, hints: Hints) -> Iterator[Finding]:
    """Yield the problems of the mapping with this table: those of all users, then those of some users."""
    issues = list(blocking_issues(mapping, table))
    if mapping == DEFAULT and any(issue.code == "missing_column" for issue in issues):
        yield _report_missing_mapping(mapping)
        issues = [issue for issue in issues if issue.code != "missing_column"]
    for issue in issues:
        yield _report_issue(issue, "wrong", find_fix(issue, mapping, table, server, hints), hints)
    for issue in partial_issues(mapping, table):
        kind: Kind = "warning" if issue.code == "not_null_for_some" else "wrong"
        yield _report_issue(issue, kind, find_fix(issue, mapping, table, server, hints), hints)


def _report_link(issue: MappingIssue, link: LinkFix, fix: Fix) -> Finding:
    """Return the finding that the Clerk IDs are in another table."""
    found = f"{link.link.display_name}.{link.link.clerk_id}"
    triggers = "Two triggers keep both tables the same." if link.can_insert else "A trigger copies each new link."
    do = "" if link.can_insert else f"have your app insert the row of a new user into {link.link.display_name}"
    return Finding(
        code=issue.code,
        kind="wrong",
        what=f"{issue.name}: there is no such column, and the Clerk IDs are in {found}",
        why="The service finds a user by a column of the users table. No event is applied until this column exists."
        f" A user whose ID is not copied would get a second row. {triggers}",
        run=fix.run,
        do=tuple(filter(None, (do,))),
        data={"name": issue.name, "column": issue.column, "links": link.link.display_name},
    )


def _report_missing_mapping(mapping: TableMapping) -> Finding:
    return Finding(
        code="no_mapping",
        kind="wrong",
        what=f"{mapping.name}: is not the table that `migrate` creates, and there is no sync.toml for it",
        why="sync.toml states which columns sync-service writes. No event is applied until it exists.",
        run=("sync-service mapping suggest > sync.toml",),
        data={"table": mapping.name},
    )


def _report_issue(issue: MappingIssue, kind: Kind, fix: Fix, hints: Hints) -> Finding:
    if issue.code == "missing_clerk_id" and hints.link:
        return _report_link(issue, hints.link, fix)
    return Finding(
        code=issue.code,
        kind=kind,
        what=str(issue).replace(DOCTOR_HINT, ""),
        why=_REASONS[issue.code],
        run=fix.run,
        do=fix.do,
        data={"name": issue.name, "column": issue.column},
    )
