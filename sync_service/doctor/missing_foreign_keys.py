"""Checks of columns that look like a reference to a user and have no foreign key (pure)."""

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sync_service.doctor.column_fixes import add_column, widen_column
from sync_service.doctor.findings import Finding, format_count
from sync_service.doctor.foreign_key_fixes import add_foreign_key, list_orphans_of_column
from sync_service.doctor.introspection import UnconstrainedColumn
from sync_service.doctor.reference_counts import OrphanCount
from sync_service.mapping.introspection import Column, Table
from sync_service.mapping.table import TableMapping
from sync_service.mapping.validation import MIN_ID_LENGTH

_ROLE = "author|creator|owner|sender|recipient|receiver|member|assignee|reviewer|follower|following"
_ACTION = "(?:created|updated|deleted|invited|assigned|uploaded|approved)by"
# These patterns match a name in lower case without underscores, hyphens and spaces.
_CLERK_ID_NAME = re.compile(r"(?:\w+)?clerk(?:user)?id")
_USER_KEY_NAME = re.compile(rf"(?:{_ROLE}|{_ACTION}|from|to)?user(?:id|key|fk)|(?:{_ROLE})id|{_ACTION}(?:id)?")

_INTEGERS = frozenset({"int2", "int4", "int8"})


@dataclass(frozen=True, slots=True)
class UserReference:
    """A column that refers to a user by its name.

    `referenced_column` is the matching column of the users table; None if the type can hold none of its keys.
    `already_referenced`: another foreign key decides when the rows of its table are deleted.
    """

    column: UnconstrainedColumn
    referenced_column: str | None
    is_clerk_id: bool
    already_referenced: bool


def find_user_references(
    mapping: TableMapping,
    table: Table,
    columns: Iterable[UnconstrainedColumn],
    cascading_tables: Container[tuple[str, str]] = (),
) -> list[UserReference]:
    """Return the columns with a name that refers to a user. A user's rows in `cascading_tables` are deleted too."""
    references = []
    for column in columns:
        name = re.sub(r"[_\s-]", "", column.name).lower()
        is_clerk_id = bool(_CLERK_ID_NAME.fullmatch(name))
        if is_clerk_id or _USER_KEY_NAME.fullmatch(name):
            already_referenced = column.already_referenced or (column.schema, column.table) in cascading_tables
            referenced_column = _find_referenced_column(mapping, table, column, is_clerk_id=is_clerk_id)
            references.append(UserReference(column, referenced_column, is_clerk_id, already_referenced))
    return references


def check_user_reference(
    mapping: TableMapping, table: Table, reference: UserReference, count: OrphanCount
) -> Iterator[Finding]:
    """Yield the problems of one column: its type, rows without a user, the missing foreign key."""
    column = reference.column
    data: dict[str, Any] = {"table": column.table_name, "column": column.name, "type": column.type}
    if reference.referenced_column is None:
        yield _report_type_mismatch(mapping, table, reference, data)
        return
    data["references"] = f"{mapping.name}.{reference.referenced_column}"
    data |= {"rows": count.rows, "orphans": count.orphans}
    if count.orphans:
        yield Finding(
            code="orphans",
            kind="warning",
            what=f"{column.display_name}: {format_count(count.orphans)} of {format_count(count.rows)} rows refer to a"
            f" user that is not in {mapping.name}",
            why="These rows have no owner: their user was deleted, or the app wrote them before their user existed.",
            run=(list_orphans_of_column(column, table, reference.referenced_column),),
            data=data,
        )
    if reference.already_referenced:
        yield _report_second_reference(reference, data)
    else:
        yield _report_missing_foreign_key(mapping, table, reference, data)


def _report_type_mismatch(
    mapping: TableMapping, table: Table, reference: UserReference, data: dict[str, Any]
) -> Finding:
    column = reference.column
    key = f"a key of {mapping.name}"
    if reference.is_clerk_id or not table.primary_key:
        key = "a Clerk ID (user_…)"
    run: tuple[str, ...] = ()
    if reference.is_clerk_id and not column.partitioned:
        run = (_add_suitable_column(column),)
    return Finding(
        code="type_mismatch",
        kind="wrong" if reference.is_clerk_id else "warning",
        what=f"{column.display_name}: is {column.type}, which cannot hold {key}",
        why="PostgreSQL refuses or cuts such a value. Ignore this if the column has another meaning.",
        run=run,
        data=data,
    )


def _report_second_reference(reference: UserReference, data: dict[str, Any]) -> Finding:
    return Finding(
        code="no_foreign_key",
        kind="note",
        what=f"{reference.column.display_name}: looks like {data['references']} and has no foreign key (another column"
        " of its table has one)",
        why="The other foreign key decides when its rows are deleted. PostgreSQL does not keep the two columns"
        " consistent.",
        data=data,
    )


def _report_missing_foreign_key(
    mapping: TableMapping, table: Table, reference: UserReference, data: dict[str, Any]
) -> Finding:
    column, referenced_column = reference.column, reference.referenced_column or ""
    can_add_key = mapping.on_delete == "cascade" and not column.partitioned and table.is_unique_on(referenced_column)
    return Finding(
        code="no_foreign_key",
        kind="warning",
        what=f"{column.display_name}: looks like {data['references']} and has no foreign key"
        f" (rows: {format_count(data['rows'])})",
        why="Its rows stay when the user is deleted, and they can refer to a user that does not exist.",
        run=add_foreign_key(column, table, referenced_column) if can_add_key else (),
        data=data,
    )


def _add_suitable_column(column: UnconstrainedColumn) -> str:
    if column.base == "varchar":
        return widen_column(column.schema, column.table, column.name)
    name = "clerk_user_id" if column.name != "clerk_user_id" else "clerk_user_id_text"
    return add_column(column.schema, column.table, name, "text")


def _find_referenced_column(
    mapping: TableMapping, table: Table, column: UnconstrainedColumn, *, is_clerk_id: bool
) -> str | None:
    clerk_id = table.column(mapping.id_column)
    key = table.column(table.primary_key[0]) if len(table.primary_key) == 1 else None
    if not is_clerk_id and key and _can_hold(column, key):
        return key.name
    if clerk_id and _find_type_family(clerk_id) == "text" and _can_hold(column, clerk_id):
        return clerk_id.name
    return None


def _can_hold(column: UnconstrainedColumn, target: Column) -> bool:
    if _find_type_family(target) != _find_type_family(column):
        return False
    return target.category != "S" or column.length is None or column.length >= MIN_ID_LENGTH


def _find_type_family(column: Column | UnconstrainedColumn) -> str:
    if column.category == "S":
        return "text"
    return "integer" if column.base in _INTEGERS else column.base
