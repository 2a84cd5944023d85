"""The cost of deleting a user, in rows deleted and rows read (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass

from sync_service.doctor.findings import Finding, format_count, format_number_of
from sync_service.doctor.foreign_key_graph import ForeignKeyEdge
from sync_service.doctor.reference_counts import ReferenceCounts


@dataclass(frozen=True, slots=True)
class DeletionCost:
    """`not_counted` are the references without a count; `max_rows` does not include them.

    `rows_read_without_index` are rows that PostgreSQL reads because a foreign key has no index.
    """

    tables: int
    average_rows: float
    max_rows: int
    not_counted: list[str]
    rows_read_without_index: float


def estimate_deletion_cost(edges: Sequence[ForeignKeyEdge], counts: ReferenceCounts) -> DeletionCost:
    """Return the average and the maximum cost of deleting one user."""
    cascading = [edge.key for edge in edges if edge.is_deleted_with_user]
    users = _count_at_least_one(counts.users)
    return DeletionCost(
        tables=len(cascading),
        average_rows=sum(((counts.rows.get(key.child_oid) or 0) / users for key in cascading), start=0.0),
        max_rows=sum(counts.max_per_user.get(key.id) or 0 for key in cascading),
        not_counted=[key.display_name for key in cascading if counts.max_per_user.get(key.id) is None],
        rows_read_without_index=sum(_estimate_rows_read(edge, counts) for edge in edges),
    )


def report_deletion_cost(edges: Sequence[ForeignKeyEdge], counts: ReferenceCounts) -> Finding:
    """Return the finding with the cost."""
    cost = estimate_deletion_cost(edges, counts)
    what = (
        f"the deletion of a user also deletes {format_number_of(round(cost.average_rows), 'row')} in"
        f" {format_number_of(cost.tables, 'table')} on average, and at most {format_count(cost.max_rows)}"
    )
    if cost.not_counted:
        what += f" (not counted: {', '.join(cost.not_counted)})"
    if cost.rows_read_without_index:
        what += f"; it reads {format_number_of(round(cost.rows_read_without_index), 'row')} because indexes are missing"
    return Finding(
        code="deletion_cost",
        kind="note",
        what=what,
        why="If a deletion takes longer than two seconds, sync-service responds to the webhook and finishes the"
        " deletion in the background.",
        data={
            "tables": cost.tables,
            "average_rows": round(cost.average_rows, 1),
            "most_rows": cost.max_rows,
            "not_counted": cost.not_counted,
            "rows_read_without_index": round(cost.rows_read_without_index),
        },
    )


def _estimate_rows_read(edge: ForeignKeyEdge, counts: ReferenceCounts) -> float:
    """Return the rows that one deletion reads because of a missing index: the whole table for each deleted parent."""
    if edge.path is None or edge.key.indexed:
        return 0.0
    parents = 1.0
    if len(edge.path) > 1:
        parents = (counts.rows.get(edge.key.parent_oid) or 0) / _count_at_least_one(counts.users)
    return parents * (counts.rows.get(edge.key.child_oid) or 0)


def _count_at_least_one(users: int | None) -> int:
    return max(users or 1, 1)
