"""Checks of the foreign keys below the users table: blocked deletions, unused cascades, unvalidated keys (pure)."""

from collections.abc import Iterator, Sequence

from sync_service.doctor.deletion_cost import report_deletion_cost
from sync_service.doctor.findings import Finding, add_article, format_count, format_number_of
from sync_service.doctor.foreign_key_fixes import list_orphans_of_key, validate_constraint
from sync_service.doctor.foreign_key_graph import ForeignKeyEdge
from sync_service.doctor.foreign_key_indexes import check_indexes
from sync_service.doctor.introspection import ForeignKey
from sync_service.doctor.reference_counts import ReferenceCounts
from sync_service.mapping.table import TableMapping

_ACTIONS = {"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}


def check_foreign_keys(
    mapping: TableMapping, edges: Sequence[ForeignKeyEdge], counts: ReferenceCounts
) -> Iterator[Finding]:
    """Yield the graph of the foreign keys and their problems."""
    if not edges:
        return
    yield _report_graph(mapping, edges, counts)
    if mapping.on_delete == "cascade":
        yield report_deletion_cost(edges, counts)
    elif any(edge.is_deleted_with_user for edge in edges):
        yield _report_unused_cascade(mapping, edges, counts)
    yield from check_deletions(mapping, edges, counts)


def check_deletions(
    mapping: TableMapping, edges: Sequence[ForeignKeyEdge], counts: ReferenceCounts
) -> Iterator[Finding]:
    """Yield the foreign keys that refuse or slow the deletion of a row, and those that were never validated."""
    if mapping.on_delete == "cascade":
        yield from _check_blocked_deletions(mapping, edges, counts)
        yield from check_indexes(mapping.entity, edges, counts)
    for edge in edges:
        if not edge.key.validated:
            yield _report_unvalidated(edge.key)


def _report_graph(mapping: TableMapping, edges: Sequence[ForeignKeyEdge], counts: ReferenceCounts) -> Finding:
    return Finding(
        code="foreign_keys",
        kind="note",
        what=f"{mapping.name}: {format_number_of(len(edges), 'foreign key')} below it, at most"
        f" {format_number_of(max(edge.depth for edge in edges), 'level')} deep",
        why="PostgreSQL follows these foreign keys when it deletes a user.",
        lines=tuple(_describe_edge(edge, counts) for edge in edges),
        data={"foreign_keys": [_export_edge(edge, counts) for edge in edges]},
    )


def _describe_edge(edge: ForeignKeyEdge, counts: ReferenceCounts) -> str:
    key = edge.key
    definitions = ", ".join(index.partition(" USING ")[2] for index in key.indexes)
    indexed = f"indexed: {definitions}" if key.indexed else "no index"
    return (
        f"{'  ' * (edge.depth - 1)}{key.display_name} → {key.parent_name} ({', '.join(key.parent_columns)}):"
        f" on delete {_ACTIONS[key.on_delete]}, {indexed}, rows: {format_count(counts.rows.get(key.child_oid))}"
    )


def _export_edge(edge: ForeignKeyEdge, counts: ReferenceCounts) -> dict[str, object]:
    key = edge.key
    return {
        "name": key.name,
        "table": key.child_name,
        "columns": list(key.columns),
        "references": key.parent_name,
        "referenced_columns": list(key.parent_columns),
        "depth": edge.depth,
        "on_delete": _ACTIONS[key.on_delete],
        "indexed": key.indexed,
        "indexes": list(key.indexes),
        "validated": key.validated,
        "rows": counts.rows.get(key.child_oid),
        "goes_with_user": edge.is_deleted_with_user,
    }


def _check_blocked_deletions(
    mapping: TableMapping, edges: Sequence[ForeignKeyEdge], counts: ReferenceCounts
) -> Iterator[Finding]:
    cascading_tables = {edge.key.child_oid for edge in edges if edge.is_deleted_with_user}
    for edge in edges:
        if edge.can_block_deletion:
            is_deleted_by_other_key = edge.key.child_oid in cascading_tables
            yield _report_blocked_deletion(mapping, edge, counts, is_deleted_by_other_key=is_deleted_by_other_key)


def _report_blocked_deletion(
    mapping: TableMapping, edge: ForeignKeyEdge, counts: ReferenceCounts, *, is_deleted_by_other_key: bool
) -> Finding:
    key = edge.key
    entity = mapping.entity
    why = f"The deletion is parked until the row is gone. Choose how your app deletes {add_article(entity)}."
    if is_deleted_by_other_key:
        why = (
            f"Another foreign key deletes these rows with the {entity} before PostgreSQL checks this one. A deletion is"
            f" parked only if such a row belongs to another {entity}."
        )
    return Finding(
        code="deletion_forbidden",
        kind="note" if is_deleted_by_other_key else "warning",
        what=f"{key.display_name}: refuses the deletion of {add_article(entity)} with such a row (on delete"
        f" {_ACTIONS[key.on_delete]}{_add_obstacle(key)}; constraint {key.name};"
        f" rows: {format_count(counts.rows.get(key.child_oid))})",
        why=why,
        do=() if is_deleted_by_other_key else _list_choices(mapping, key),
        data={"constraint": key.name, "table": key.child_name, "depth": edge.depth},
    )


def _add_obstacle(key: ForeignKey) -> str:
    return " on a NOT NULL column" if key.on_delete == "n" else ""


def _list_choices(mapping: TableMapping, key: ForeignKey) -> tuple[str, ...]:
    """Return the ways to delete a row. The constraint is the owner's decision, so no statement replaces it."""
    section = mapping.kind.section
    return (
        f'keep the row and mark it: on_delete = "soft" in [{section}] of sync.toml, and a mark in [{section}.deleted]',
        f'keep the row without personal data: on_delete = "anonymize" in [{section}] of sync.toml',
        f"delete the rows of {key.child_name} too: give constraint {key.name} ON DELETE CASCADE in your app's schema",
        f"or leave it: delete such a row yourself, and the service then deletes the {mapping.entity}",
    )


def _report_unused_cascade(mapping: TableMapping, edges: Sequence[ForeignKeyEdge], counts: ReferenceCounts) -> Finding:
    counted = {edge.key.display_name: edge.key.id for edge in edges if edge.key.id in counts.of_deleted_users}
    rows = {name: counts.of_deleted_users[key_id] for name, key_id in counted.items()}
    names = ", ".join(edge.key.display_name for edge in edges if edge.is_deleted_with_user)
    return Finding(
        code="cascade_never_fires",
        kind="note",
        what=f'{mapping.name}: on_delete = "{mapping.on_delete}" keeps the row, so ON DELETE CASCADE has no effect',
        why=f"The rows of a deleted user stay. The app must hide or delete them: {names}.",
        lines=tuple(
            f"{name}: rows of users marked as deleted: {format_count(number)}" for name, number in rows.items()
        ),
        data={"rows_of_deleted_users": rows},
    )


def _report_unvalidated(key: ForeignKey) -> Finding:
    return Finding(
        code="foreign_key_not_validated",
        kind="warning",
        what=f"{key.display_name}: constraint {key.name} was never validated",
        why="Rows older than the constraint can refer to a row that does not exist.",
        run=(list_orphans_of_key(key), validate_constraint(key.schema, key.table, key.name)),
        data={"constraint": key.name, "table": key.child_name},
    )
