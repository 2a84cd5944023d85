"""Checks of the indexes on foreign keys; without one, each deletion reads the whole child table (pure)."""

from collections.abc import Iterator, Sequence

from sync_service.doctor.findings import Finding, format_count
from sync_service.doctor.foreign_key_graph import ForeignKeyEdge
from sync_service.doctor.index_fixes import create_index
from sync_service.doctor.introspection import ForeignKey
from sync_service.doctor.reference_counts import ReferenceCounts

# PostgreSQL reads a table with fewer rows so fast that an index makes no difference.
SMALL_TABLE_ROWS = 1000


def check_indexes(entity: str, edges: Sequence[ForeignKeyEdge], counts: ReferenceCounts) -> Iterator[Finding]:
    """Yield a finding for each large table without an index, and one for all small tables."""
    small = []
    for edge in edges:
        if edge.key.indexed or edge.path is None:
            continue
        rows = counts.rows.get(edge.key.child_oid)
        if rows is not None and rows < SMALL_TABLE_ROWS:
            small.append(edge.key)
        else:
            yield _report_missing_index(entity, edge, rows)
    if small:
        yield _report_missing_small_indexes(small)


def _report_missing_small_indexes(keys: Sequence[ForeignKey]) -> Finding:
    return Finding(
        code="foreign_key_without_index",
        kind="note",
        what=f"foreign keys of small tables without an index that begins with them: {len(keys)}",
        why=f"Below {SMALL_TABLE_ROWS:,} rows an index makes no difference. In a larger table, each deletion reads"
        " all rows.",
        lines=tuple(key.display_name for key in keys),
        run=tuple(statement for key in keys for statement in _create_key_index(key)),
        data={"constraints": [key.name for key in keys]},
    )


def _report_missing_index(entity: str, edge: ForeignKeyEdge, rows: int | None) -> Finding:
    key = edge.key
    deleted = entity if edge.depth == 1 else f"row of {key.parent_table}"
    return Finding(
        code="foreign_key_without_index",
        kind="warning",
        what=f"{key.display_name}: no index begins with it (rows: {format_count(rows)})",
        why=f"PostgreSQL reads the whole table for each deleted {deleted}.",
        run=_create_key_index(key),
        data={"constraints": [key.name], "table": key.child_name, "rows": rows},
    )


def _create_key_index(key: ForeignKey) -> tuple[str, ...]:
    # CREATE INDEX CONCURRENTLY does not work on a partitioned table.
    return () if key.partitioned else (create_index(key.schema, key.table, key.columns),)
