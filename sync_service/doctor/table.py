"""The users table against its mapping: what stands in the way, and the statement that cures it (pure)."""

from collections.abc import Iterator

from sync_service.doctor.findings import Finding
from sync_service.mapping.presets import DEFAULT, NOBODY
from sync_service.mapping.sources import WHOLE
from sync_service.mapping.sources import Column as Source
from sync_service.mapping.table import TableMapping
from sync_service.postgres import cures
from sync_service.postgres.catalogue import Table
from sync_service.postgres.obstacles import Obstacle, for_all, for_some
from sync_service.postgres.survey import Server

# What begins so is for the owner to write, not to run.
IN_FILE = "in sync.toml"

# Where the Clerk ID goes when the column that was named is of another type.
BESIDE = "clerk_user_id"

_WHY = {
    "not_a_table": "A view cannot be kept true by ON CONFLICT, which is how two events at once stay one row.",
    "missing_clerk_id": "The Clerk ID is what a user is known by; until it has a column, no event is applied.",
    "wrong_clerk_id_type": "`user_…` would be refused as invalid input; the key stays, the Clerk ID goes beside it.",
    "short_clerk_id": "The end of the ID would be lost, and with it who it is.",
    "missing_unique_index": "Without it two events at once make two rows of one user; no event is applied until then.",
    "missing_column": "No event is applied until the mapping and the table agree.",
    "not_scrubbed": "An anonymous row must not show who it was; no event is applied until it can.",
    "missing_deleted_at": "A soft deletion sets it; no event is applied until it is there.",
    "wrong_deleted_at": "A soft deletion sets it; no event is applied until it can.",
    "no_privilege": "No event is applied without it.",
    "no_schema_privilege": "No event is applied without it.",
    "no_sequence_privilege": "No new user can be inserted without it.",
    "row_security": "A row that is not seen is made a second time.",
    "not_null_unfilled": "Every user who is new is parked until it may be null, has a default, or is mapped.",
    "not_null_for_some": "Those users are parked: somebody with a phone only has no address, many have no names.",
}


def missing_table(mapping: TableMapping) -> Finding:
    """Return that the table is not there."""
    return Finding(
        code="missing_table",
        kind="wrong",
        what=f"{mapping.name}: there is no such table",
        why="There is nothing to keep true to Clerk.",
        run=("sync-service migrate" if mapping.created_by else "sync-service mapping suggest",),
        data={"table": mapping.name},
    )


def table_findings(mapping: TableMapping, table: Table, server: Server) -> Iterator[Finding]:
    """Yield what of the table stands in a mapping's way."""
    in_the_way = list(for_all(mapping, table))
    if mapping == DEFAULT and any(obstacle.code == "missing_column" for obstacle in in_the_way):
        yield _no_mapping(mapping)
        in_the_way = [obstacle for obstacle in in_the_way if obstacle.code != "missing_column"]
    for obstacle in in_the_way:
        yield _found(obstacle, "wrong", _cure(obstacle, mapping, table, server))
    for obstacle in for_some(mapping, table):
        kind = "wrong" if obstacle.code == "not_null_unfilled" else "warning"
        yield _found(obstacle, kind, _cure(obstacle, mapping, table, server))


def _no_mapping(mapping: TableMapping) -> Finding:
    return Finding(
        code="no_mapping",
        kind="wrong",
        what=f"{mapping.name}: is not the table that `migrate` makes, and there is no sync.toml for it",
        why="Which of its columns are to be kept true to Clerk is the owner's to say; no event is applied until then.",
        run=("sync-service mapping suggest > sync.toml",),
        data={"table": mapping.name},
    )


def _found(obstacle: Obstacle, kind: str, run: tuple[str, ...]) -> Finding:
    return Finding(
        code=obstacle.code,
        kind="wrong" if kind == "wrong" else "warning",
        what=str(obstacle).replace("; `sync-service doctor` prints the statement that makes it", ""),
        why=_WHY[obstacle.code],
        run=tuple(line for line in run if not line.startswith(IN_FILE)),
        do=tuple(line for line in run if line.startswith(IN_FILE)),
        data={"name": obstacle.name, "column": obstacle.column},
    )


def _cure(obstacle: Obstacle, mapping: TableMapping, table: Table, server: Server) -> tuple[str, ...]:
    column = obstacle.column or ""
    if obstacle.code in {"missing_clerk_id", "wrong_clerk_id_type", "short_clerk_id", "missing_unique_index"}:
        return _id_cure(obstacle.code, table, column)
    run: tuple[str, ...] = ()
    match obstacle.code:
        case "missing_column":
            run = (cures.add_column(table, column, _type_for(mapping.columns[column])),)
        case "missing_deleted_at":
            run = (cures.add_column(table, column, "timestamptz"),)
        case "not_null_unfilled":
            found = table.column(column)
            key = column in table.primary_key
            run = cures.give_default(table, found) if key and found else (cures.allow_null(table, column),)
        case "not_null_for_some" | "not_scrubbed":
            run = (_stand_in(table, mapping.columns[column], column),)
        case "no_privilege":
            needed = {"SELECT", "INSERT", "UPDATE", *(["DELETE"] if mapping.on_delete == "cascade" else [])}
            run = cures.grant(table, sorted(needed - table.privileges), server.role)
        case "no_schema_privilege":
            run = (cures.grant_schema(table.schema, server.role),)
        case "no_sequence_privilege":
            run = (cures.grant_sequence(obstacle.name, server.role),)
        case "row_security":
            run = (cures.bypass_row_security(server.role),)
    return run


def _id_cure(code: str, table: Table, column: str) -> tuple[str, ...]:
    if code == "short_clerk_id":
        return (cures.widen(table.schema, table.name, column),)
    if table.kind == "p":
        return (
            f"{IN_FILE}: name a table that is not partitioned, for it takes no unique index without its partition key",
        )
    if code == "missing_unique_index":
        return cures.unique_index(table, column)
    beside = column if code == "missing_clerk_id" else BESIDE
    added = () if table.column(beside) else (cures.add_column(table, beside, "text"),)
    made = () if table.unique_on(beside) else cures.unique_index(table, beside)
    named = () if beside == column else (f'{IN_FILE}: clerk_id = "{beside}"',)
    return (*added, *made, *named)


def _stand_in(table: Table, spec: Source, column: str) -> str:
    found = table.column(column)
    if found is None or found.category != "S":
        return cures.allow_null(table, column)
    when_null = NOBODY if spec.source == "primary_email" else "" if spec.source != "id" else "{clerk_id}"
    unique = any(index.unique and column in index.keys for index in table.indexes)
    when_null = when_null or ("{clerk_id}" if unique else "")
    return f'{IN_FILE}, below [users.columns]: {column} = {{ from = "{spec.source}", when_null = "{when_null}" }}'


def _type_for(spec: Source) -> str:
    if spec.source is None:
        kinds = {bool: "boolean", int: "bigint", float: "double precision"}
        return kinds.get(type(spec.constant), "text")
    if spec.source in {"primary_email_verified", "banned", "locked"}:
        return "boolean"
    if spec.source.endswith("_at"):
        return "timestamptz"
    return "jsonb" if spec.source == WHOLE or spec.source.endswith("_metadata") else "text"
