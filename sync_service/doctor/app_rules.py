"""Checks of the mapping against the app's own ways: deletion marks, enums, times of a change, other tables (pure)."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sync_service.doctor.findings import Finding
from sync_service.doctor.hints import Hints
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.introspection import Column, Table
from sync_service.mapping.table import TableMapping
from sync_service.suggest.toml_syntax import render_entry

# More labels would make the sentence hard to read.
MAX_SHOWN_LABELS = 8

# The rule of a time that the app sets at each change.
CHANGE_TIME = {"generate": "now"}


def check_app_rules(mapping: TableMapping, table: Table, hints: Hints) -> Iterator[Finding]:
    """Yield the places where the service would work against the app without an error."""
    if hints.other_users_table:
        yield _report_other_table(mapping, hints.other_users_table)
    yield from _check_marks(mapping, table, hints)
    yield from _check_enums(mapping, table)
    for name, decision in hints.decisions.items():
        if decision.spec == CHANGE_TIME and name not in mapping.columns:
            yield _report_unchanged_time(mapping, name)


def _check_enums(mapping: TableMapping, table: Table) -> Iterator[Finding]:
    for name, source in mapping.columns.items():
        column = table.column(name)
        if column and column.category == "E" and source.sources and source.equals is None:
            yield _report_enum(mapping, column, source)


def _report_other_table(mapping: TableMapping, other: str) -> Finding:
    return Finding(
        code="second_users_table",
        kind="warning",
        what=f"{mapping.name}: is the default table of the service, but {other} looks like the users table of your app",
        why=f"The service writes users to {mapping.name}, and your app does not see them in {other}.",
        run=("sync-service mapping suggest > sync.toml",),
        do=(f"then drop {mapping.name}, if it has no rows that your app needs",),
        data={"table": mapping.name, "other": other},
    )


def _check_marks(mapping: TableMapping, table: Table, hints: Hints) -> Iterator[Finding]:
    """Yield the finding that the app cannot see which users are deleted."""
    marks = mapping.deletion_marks
    if mapping.on_delete != "soft":
        return
    if hints.marks and marks.keys().isdisjoint(hints.marks):
        why = f"Your app marks deleted users with {', '.join(hints.marks)}."
        yield _report_invisible_deletion(mapping, why, [render_entry(*pair) for pair in hints.marks.items()])
    elif all(_is_usual_value(mapping, table.column(name), source) for name, source in marks.items()):
        entry = "name a column and a value that only a deleted user has"
        yield _report_invisible_deletion(mapping, "Active users have this value too.", [entry])


def _report_invisible_deletion(mapping: TableMapping, why: str, entries: Sequence[str]) -> Finding:
    marks = list(mapping.deletion_marks)
    return Finding(
        code="invisible_deletion",
        kind="warning",
        what=f"{mapping.name}: a deletion sets {', '.join(marks)}, and your app does not see from it that the user is"
        " deleted",
        why=f"{why} A deleted user would look like an active one.",
        do=tuple(f"in sync.toml, below [users.deleted], in place of {', '.join(marks)}: {entry}" for entry in entries),
        data={"marks": marks},
    )


def _is_usual_value(mapping: TableMapping, column: Column | None, mark: FieldSource) -> bool:
    """Return whether new users have the value of the mark as well."""
    if column is None or mark.constant is None:
        return False
    on_insert = mapping.columns.get(column.name)
    if on_insert and on_insert.constant == mark.constant:
        return True
    return not column.generated and _read_literal(column.expression) == _format_literal(mark.constant)


def _read_literal(expression: str | None) -> str | None:
    """Return the text of a default that is a plain value: `'active'::text`, `true`."""
    found = re.fullmatch(r"'((?:[^']|'')*)'(?:::.+)?|(\w+)", expression or "")
    return (found[1] or found[2] or "").replace("''", "'") if found else None


def _format_literal(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _report_enum(mapping: TableMapping, column: Column, source: FieldSource) -> Finding:
    shown = ", ".join(column.labels[:MAX_SHOWN_LABELS]) + (", …" if len(column.labels) > MAX_SHOWN_LABELS else "")
    return Finding(
        code="enum_column",
        kind="warning",
        what=f"{mapping.name}.{column.name}: takes only {shown}, but is filled from {' or '.join(source.sources)}",
        why="An event with any other value is parked, until the type has this value or the user's value changes.",
        do=(f"check that Clerk has only these values, or remove {column.name} under [users.columns] in sync.toml",),
        data={"column": column.name, "labels": list(column.labels), "sources": list(source.sources)},
    )


def _report_unchanged_time(mapping: TableMapping, name: str) -> Finding:
    return Finding(
        code="unchanged_time",
        kind="note",
        what=f"{mapping.name}.{name}: stays the same when the service changes a row",
        why="Your app sets this time at each change of its own. A cache or an export that reads it would miss the"
        " changes of the service.",
        do=(f"in sync.toml, below [users.columns]: {render_entry(name, CHANGE_TIME)}",),
        data={"column": name},
    )
