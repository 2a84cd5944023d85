"""Checks of the tables that refer to the users table: their foreign keys, and columns that lack one."""

from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

from sync_service.doctor.counts import Counter
from sync_service.doctor.findings import Finding
from sync_service.doctor.foreign_key_graph import ForeignKeyEdge, build_graph
from sync_service.doctor.foreign_keys import check_foreign_keys
from sync_service.doctor.introspection import read_foreign_keys, read_unconstrained_columns
from sync_service.doctor.missing_foreign_keys import check_user_reference
from sync_service.doctor.reference_counts import (
    ReferenceCounts,
    count_child_rows,
    count_orphans,
    count_rows_of_deleted_users,
    max_rows_per_user,
)
from sync_service.doctor.user_join import count_join, list_joined_keys, report_join
from sync_service.doctor.user_references import find_user_references
from sync_service.mapping.introspection import Table
from sync_service.mapping.table import TableMapping

# Gets a noun phrase: the subject of the current check.
ProgressCallback: TypeAlias = Callable[[str], None]


class ReferenceChecks:
    """Reads the catalogue, counts rows, and yields the findings."""

    def __init__(self, counter: Counter, on_progress: ProgressCallback) -> None:
        self._counter = counter
        self._on_progress = on_progress

    async def check_users(self, mapping: TableMapping, table: Table, users: int | None) -> AsyncIterator[Finding]:
        """Yield the findings about the tables below the users table, which has `users` rows."""
        edges = build_graph(table.oid, await read_foreign_keys(self._counter.connection, table.oid))
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
        columns = await read_unconstrained_columns(self._counter.connection, table.oid)
        for reference in find_user_references(mapping, table, columns, cascading_tables):
            self._on_progress(reference.column.display_name)
            counts = {
                name: await count_orphans(self._counter, reference.column, table, name) for name in reference.candidates
            }
            for finding in check_user_reference(mapping, table, reference, counts):
                yield finding
