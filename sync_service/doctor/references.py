"""Checks of the tables that refer to a mapped table: their foreign keys, and columns that lack one."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TypeAlias

from sync_service.doctor.counts import Counter
from sync_service.doctor.findings import Finding
from sync_service.doctor.foreign_key_graph import ForeignKeyEdge, build_graph
from sync_service.doctor.foreign_keys import check_deletions, check_foreign_keys
from sync_service.doctor.introspection import read_foreign_keys, read_unconstrained_columns
from sync_service.doctor.missing_foreign_keys import check_user_reference, report_orphans
from sync_service.doctor.reference_counts import (
    ReferenceCounts,
    count_child_rows,
    count_orphans,
    count_rows_of_deleted_users,
    max_rows_per_user,
)
from sync_service.doctor.user_join import count_join, list_joined_keys, report_join
from sync_service.doctor.user_references import can_hold, find_user_references
from sync_service.mapping.binding import find_key
from sync_service.mapping.child_queries import list_parent_columns
from sync_service.mapping.introspection import Table
from sync_service.mapping.table import TableMapping

# Gets a noun phrase: the subject of the current check.
ProgressCallback: TypeAlias = Callable[[str], None]


class ReferenceChecks:
    """Reads the catalogue, counts rows, and yields the findings."""

    def __init__(self, counter: Counter, on_progress: ProgressCallback) -> None:
        self._counter = counter
        self._on_progress = on_progress
        # The foreign keys whose effect on the deletion of a parent is already reported.
        self._checked: set[tuple[int, str]] = set()

    async def check_users(self, mapping: TableMapping, table: Table, users: int | None) -> AsyncIterator[Finding]:
        """Yield the findings about the tables below the users table, which has `users` rows."""
        edges = await self._read_graph(mapping, table)
        counts = ReferenceCounts(users=users)
        for edge in edges:
            self._on_progress(edge.key.child_name)
            await self._count_references(mapping, table, edge, counts)
        for finding in check_foreign_keys(mapping, edges, counts):
            yield finding
        async for finding in self._check_missing_foreign_keys(mapping, table, edges):
            yield finding
        keys = list_joined_keys(table, edges)
        joins = {key.display_name: await count_join(self._counter, mapping, table, key) for key in keys}
        if report := report_join(mapping, table, keys, joins):
            yield report

    async def check_related(
        self, mapping: TableMapping, table: Table, parents: Mapping[str, tuple[TableMapping, Table]]
    ) -> AsyncIterator[Finding]:
        """Yield the problems of a table of sessions, organizations or memberships.

        These are foreign keys below it that refuse or slow a deletion, and its rows without a row of their parent.
        """
        checked = set(self._checked)
        edges = [edge for edge in await self._read_graph(mapping, table) if edge.key.id not in checked]
        counts = ReferenceCounts()
        for edge in edges:
            counts.rows[edge.key.child_oid] = await count_child_rows(self._counter, edge.key)
        for finding in check_deletions(mapping, edges, counts):
            yield finding
        for parent in mapping.kind.parents:
            if parent.entity in parents:
                columns = dict(list_parent_columns(mapping, parent))
                async for finding in self._check_orphans(table, columns, *parents[parent.entity]):
                    yield finding

    async def _check_orphans(
        self, child: Table, columns: Mapping[str, bool], mapping: TableMapping, table: Table
    ) -> AsyncIterator[Finding]:
        """Yield the columns of the child with rows without a parent. `mapping` and `table` are those of the parent."""
        for column in await read_unconstrained_columns(self._counter.connection, table.oid):
            if (column.schema, column.table) != (child.schema, child.name) or column.name not in columns:
                continue
            name = find_key(mapping, table) if columns[column.name] else mapping.id_column
            referenced = table.column(name)
            if referenced is None or not can_hold(column, referenced):
                continue
            count = await count_orphans(self._counter, column, table, name)
            if count.orphans:
                yield report_orphans(mapping, table, column, name, count)

    async def _read_graph(self, mapping: TableMapping, table: Table) -> list[ForeignKeyEdge]:
        edges = build_graph(table.oid, await read_foreign_keys(self._counter.connection, table.oid))
        if mapping.on_delete == "cascade":
            self._checked |= {edge.key.id for edge in edges if edge.path is not None}
        return edges

    async def _count_references(
        self, mapping: TableMapping, table: Table, edge: ForeignKeyEdge, counts: ReferenceCounts
    ) -> None:
        key = edge.key
        if key.child_oid not in counts.rows:
            counts.rows[key.child_oid] = await count_child_rows(self._counter, key)
        if not edge.is_deleted_with_user:
            return
        if mapping.on_delete == "cascade":
            counts.max_per_user[key.id] = await max_rows_per_user(self._counter, edge.path or ())
        elif key.parent_oid == table.oid and (deleted_at := table.column(mapping.deleted_at)):
            counts.of_deleted_users[key.id] = await count_rows_of_deleted_users(self._counter, key, deleted_at)

    async def _check_missing_foreign_keys(
        self, mapping: TableMapping, table: Table, edges: list[ForeignKeyEdge]
    ) -> AsyncIterator[Finding]:
        cascading_tables = {(edge.key.schema, edge.key.table) for edge in edges if edge.is_deleted_with_user}
        # The service deletes the rows of these tables itself, and `check_related` counts their orphans.
        mapped = _find_mapped_columns(mapping.related)
        found = await read_unconstrained_columns(self._counter.connection, table.oid)
        columns = [column for column in found if (column.schema, column.table, column.name) not in mapped]
        for reference in find_user_references(mapping, table, columns, cascading_tables):
            self._on_progress(reference.column.display_name)
            counts = {
                name: await count_orphans(self._counter, reference.column, table, name) for name in reference.candidates
            }
            for finding in check_user_reference(mapping, table, reference, counts):
                yield finding


def _find_mapped_columns(children: Sequence[TableMapping]) -> set[tuple[str, str, str]]:
    """Return schema, table and name of the columns that the service fills with the key of a parent."""
    return {
        (child.schema, child.table, name)
        for child in children
        for parent in child.kind.parents
        for name, _ in list_parent_columns(child, parent)
    }
