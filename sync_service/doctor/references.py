"""The foreign keys below the users table: what goes with a user, what forbids it, what it costs (pure)."""

from collections.abc import Iterator, Mapping, Sequence

from sync_service.doctor.findings import Finding, told
from sync_service.doctor.graph import Reference
from sync_service.mapping.table import TableMapping
from sync_service.postgres import cures
from sync_service.postgres.survey import ForeignKey

# Below this a table is read whole in a blink, index or not.
FEW = 1000


def reference_findings(
    mapping: TableMapping,
    found: Sequence[Reference],
    *,
    users: int | None,
    rows: Mapping[int, int | None],
    most: Mapping[tuple[int, str], int | None],
    left: Mapping[tuple[int, str], int | None],
) -> Iterator[Finding]:
    """Yield the graph, and what of it the owner should know.

    `rows` by table, `most` of one user by key, `left`: rows that belong to users who are marked as deleted.
    """
    if not found:
        return
    yield _graph(mapping, found, rows)
    going = {reference.key.child for reference in found if reference.goes}
    if mapping.on_delete == "cascade":
        for reference in found:
            if reference.forbids:
                yield _forbidding(reference, rows, goes_otherwise=reference.key.child in going)
        yield from _without_index(found, rows)
        yield _cost(found, users, rows, most)
    elif any(reference.goes for reference in found):
        yield _never_fired(mapping, found, left)
    for reference in found:
        if not reference.key.validated:
            yield _unvalidated(reference)


def _graph(mapping: TableMapping, found: Sequence[Reference], rows: Mapping[int, int | None]) -> Finding:
    lines, data = [], []
    for reference in found:
        key = reference.key
        action = cures.ACTIONS[key.on_delete]
        forms = ", ".join(index.partition(" USING ")[2] for index in key.indexes)
        indexed = f"indexed: {forms}" if key.indexed else "no index"
        into = f"{key.parent_schema}.{key.parent_table}"
        lines.append(
            f"{'  ' * (reference.depth - 1)}{key.where} → {into} ({', '.join(key.parent_columns)}):"
            f" on delete {action}, {indexed}, {told(rows.get(key.child))} rows"
        )
        data.append(
            {
                "name": key.name,
                "table": f"{key.schema}.{key.table}",
                "columns": list(key.columns),
                "references": into,
                "referenced_columns": list(key.parent_columns),
                "depth": reference.depth,
                "on_delete": action,
                "indexed": key.indexed,
                "indexes": list(key.indexes),
                "validated": key.validated,
                "rows": rows.get(key.child),
                "goes_with_user": reference.goes,
            }
        )
    return Finding(
        code="foreign_keys",
        kind="note",
        what=f"{mapping.name}: {len(found)} foreign keys below it, {max(r.depth for r in found)} deep",
        why="This is what a deletion meets.",
        lines=tuple(lines),
        data={"foreign_keys": data},
    )


def _forbidding(reference: Reference, rows: Mapping[int, int | None], *, goes_otherwise: bool) -> Finding:
    key = reference.key
    return Finding(
        code="deletion_forbidden",
        kind="note" if goes_otherwise else "warning",
        what=f"{key.where}: on delete {cures.ACTIONS[key.on_delete]} (constraint {key.name},"
        f" {told(rows.get(key.child))} rows)",
        why="Its rows go with the user by another key, before this one is looked at; only where a row is of another"
        " user is the deletion parked."
        if goes_otherwise
        else "The deletion of a user who has a row there is parked until the row is gone. Let it cascade, or keep the"
        ' users\' rows: on_delete = "soft" or "anonymize" in sync.toml.',
        run=cures.cascade(key) if not key.partitioned else (),
        data={"constraint": key.name, "table": f"{key.schema}.{key.table}", "depth": reference.depth},
    )


def _without_index(found: Sequence[Reference], rows: Mapping[int, int | None]) -> Iterator[Finding]:
    """Yield a finding for each table that is large enough to be felt, and one for all the others."""
    small = []
    for reference in found:
        key, number = reference.key, rows.get(reference.key.child)
        if key.indexed or reference.path is None:
            continue
        if number is not None and number < FEW:
            small.append(key)
            continue
        each = "each deletion of a user" if reference.depth == 1 else f"each row of {key.parent_table} that is deleted"
        yield Finding(
            code="foreign_key_without_index",
            kind="warning",
            what=f"{key.where}: no index begins with it ({told(number)} rows)",
            why=f"For {each} PostgreSQL reads the whole table.",
            run=_index(key),
            data={"constraints": [key.name], "table": f"{key.schema}.{key.table}", "rows": number},
        )
    if small:
        yield Finding(
            code="foreign_key_without_index",
            kind="note",
            what=f"foreign keys of small tables without an index that begins with them: {len(small)}",
            why=f"Not felt below {FEW:,} rows; beyond, each deletion reads the whole table.",
            lines=tuple(key.where for key in small),
            run=tuple(statement for key in small for statement in _index(key)),
            data={"constraints": [key.name for key in small]},
        )


def _index(key: ForeignKey) -> tuple[str, ...]:
    return () if key.partitioned else (cures.index(key.schema, key.table, key.columns),)


def _cost(
    found: Sequence[Reference],
    users: int | None,
    rows: Mapping[int, int | None],
    most: Mapping[tuple[int, str], int | None],
) -> Finding:
    """Tell in rows, for rows are what it costs: those that go, and those that are read for want of an index."""
    gone = average = heaviest = read = 0.0
    unknown = []
    for reference in found:
        key = reference.key
        number, largest = rows.get(key.child), most.get((key.child, key.name))
        if reference.goes:
            gone += 1
            average += (number or 0) / max(users or 1, 1)
            heaviest += largest if largest is not None else 0
            unknown += [key.where] if largest is None else []
        if reference.path is not None and not key.indexed:
            parents = 1.0 if len(reference.path) == 1 else (rows.get(key.parent) or 0) / max(users or 1, 1)
            read += parents * (number or 0)
    at_most = f"at most {told(round(heaviest))}" + (f" (not counted: {', '.join(unknown)})" if unknown else "")
    scanned = f", and reads {told(round(read))} for want of an index" if read else ""
    return Finding(
        code="deletion_cost",
        kind="note",
        what=f"a deletion takes {told(round(average))} rows of {told(round(gone))} tables along on average,"
        f" {at_most}{scanned}",
        why="One that takes longer than two seconds is answered at once and finished in the background.",
        data={
            "tables": round(gone),
            "average_rows": round(average, 1),
            "most_rows": round(heaviest),
            "not_counted": unknown,
            "rows_read_without_index": round(read),
        },
    )


def _never_fired(
    mapping: TableMapping, found: Sequence[Reference], left: Mapping[tuple[int, str], int | None]
) -> Finding:
    counted = [(r.key, left[r.key.child, r.key.name]) for r in found if (r.key.child, r.key.name) in left]
    names = ", ".join(reference.key.where for reference in found if reference.goes)
    return Finding(
        code="cascade_never_fires",
        kind="note",
        what=f'{mapping.name}: on_delete = "{mapping.on_delete}" keeps the row, so that ON DELETE CASCADE never fires',
        why=f"Rows of a deleted user stay, and are the app's to hide or remove: {names}.",
        lines=tuple(f"{key.where}: {told(number)} rows of users who are marked as deleted" for key, number in counted),
        data={"rows_of_deleted_users": {key.where: number for key, number in counted}},
    )


def _unvalidated(reference: Reference) -> Finding:
    key = reference.key
    parent = (key.parent_schema, key.parent_table)
    return Finding(
        code="foreign_key_not_validated",
        kind="warning",
        what=f"{key.where}: constraint {key.name} was never validated",
        why="Rows from before it may name users who are not there.",
        run=(
            cures.list_orphans(key.schema, key.table, key.columns, parent, key.parent_columns),
            cures.validate(key.schema, key.table, key.name),
        ),
        data={"constraint": key.name, "table": f"{key.schema}.{key.table}"},
    )
