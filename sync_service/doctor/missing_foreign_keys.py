"""Checks of columns that refer to a user and have no foreign key (pure). A name alone is no evidence against rows."""

from collections.abc import Iterator, Mapping
from typing import Any

from sync_service.doctor.column_fixes import widen_column
from sync_service.doctor.findings import Finding, Kind, add_article, format_count
from sync_service.doctor.foreign_key_fixes import add_foreign_key, list_orphans_of_column
from sync_service.doctor.introspection import UnconstrainedColumn
from sync_service.doctor.reference_counts import OrphanCount
from sync_service.doctor.user_references import UserReference
from sync_service.mapping.introspection import Table
from sync_service.mapping.table import TableMapping


def check_user_reference(
    mapping: TableMapping, table: Table, reference: UserReference, counts: Mapping[str, OrphanCount]
) -> Iterator[Finding]:
    """Yield the problems of one column: its type, rows without a user, the missing foreign key.

    `counts` has the rows of the column, by the column of the users table to which they may refer.
    """
    column = reference.column
    data = _export_column(column)
    if not counts:
        if reference.names_user and not reference.may_be_other:
            yield _report_type_mismatch(mapping, table, reference, data)
        return
    referenced_column = _choose_referenced_column(mapping, counts)
    count = counts[referenced_column]
    if not _refers_to_users(reference, count):
        return
    data |= _export_count(mapping, referenced_column, count)
    if count.orphans:
        yield report_orphans(mapping, table, column, referenced_column, count)
    if reference.already_referenced:
        yield _report_second_reference(reference, data)
    else:
        can_add_key = (
            mapping.on_delete == "cascade" and not column.partitioned and table.is_unique_on(referenced_column)
        )
        key = add_foreign_key(column, table, referenced_column) if can_add_key else ()
        kind = _choose_kind(mapping, reference, count)
        yield _report_missing_foreign_key(reference, kind, count, key, data)


def report_orphans(
    mapping: TableMapping, table: Table, column: UnconstrainedColumn, referenced_column: str, count: OrphanCount
) -> Finding:
    """Return the finding about rows without a row of their parent. `mapping` and `table` are those of the parents."""
    entity = mapping.entity
    return Finding(
        code="orphans",
        kind="warning",
        what=f"{column.display_name}: {format_count(count.orphans)} of {format_count(count.rows)} rows refer to"
        f" {add_article(entity)} that is not in {mapping.name}",
        why=f"These rows have no owner: their {entity} was deleted, or the app wrote them before it existed.",
        run=(list_orphans_of_column(column, table, referenced_column),),
        do=(f"sync-service reconcile inserts each {entity} that Clerk still has; delete the rows that remain",),
        data=_export_column(column) | _export_count(mapping, referenced_column, count),
    )


def _export_column(column: UnconstrainedColumn) -> dict[str, Any]:
    return {"table": column.table_name, "column": column.name, "type": column.type}


def _export_count(mapping: TableMapping, referenced_column: str, count: OrphanCount) -> dict[str, Any]:
    return {"references": f"{mapping.name}.{referenced_column}", "rows": count.rows, "orphans": count.orphans}


def _choose_referenced_column(mapping: TableMapping, counts: Mapping[str, OrphanCount]) -> str:
    """Return the column with the most matches; without any, the Clerk ID if the values look like one."""

    def rank(name: str) -> tuple[int, bool]:
        return counts[name].matches, bool(counts[name].clerk_ids) and name == mapping.id_column

    return max(counts, key=rank)


def _refers_to_users(reference: UserReference, count: OrphanCount) -> bool:
    """Return whether the values, or without any value the name, show that the column refers to users."""
    if count.matches:
        return True
    if count.rows:
        return bool(count.clerk_ids) and reference.names_user
    return not reference.may_be_other


def _report_type_mismatch(
    mapping: TableMapping, table: Table, reference: UserReference, data: dict[str, Any]
) -> Finding:
    column = reference.column
    key = f"a key of {mapping.name}"
    if reference.is_clerk_id or not table.primary_key:
        key = "a Clerk ID (user_…)"
    run: tuple[str, ...] = ()
    if reference.is_clerk_id and not column.partitioned and column.base == "varchar":
        run = (widen_column(column.schema, column.table, column.name),)
    return Finding(
        code="type_mismatch",
        kind="warning" if reference.is_clerk_id else "note",
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


def _choose_kind(mapping: TableMapping, reference: UserReference, count: OrphanCount) -> Kind:
    """Return `note` for a name that proves little, and where the rows of a deleted user stay anyway."""
    is_certain = reference.names_user or bool(count.matches)
    return "warning" if is_certain and mapping.on_delete == "cascade" else "note"


def _report_missing_foreign_key(
    reference: UserReference, kind: Kind, count: OrphanCount, key: tuple[str, ...], data: dict[str, Any]
) -> Finding:
    """Return the finding. `key` are the statements that add the foreign key."""
    # With rows that have no user, PostgreSQL refuses the key, or the next such row of the app.
    waits = "delete the rows without a user, or insert their users; then doctor prints the foreign key"
    return Finding(
        code="no_foreign_key",
        kind=kind,
        what=f"{reference.column.display_name}: looks like {data['references']} and has no foreign key"
        f" (rows: {format_count(count.rows)})",
        why="Its rows stay when the user is deleted, and they can refer to a user that does not exist.",
        run=key if kind == "warning" and not count.orphans else (),
        do=(waits,) if key and count.orphans else (),
        data=data,
    )
