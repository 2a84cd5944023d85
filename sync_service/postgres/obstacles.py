"""What in a table stands in the way of a mapping (pure): of all users, or of some."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from sync_service.mapping import sources
from sync_service.mapping.table import TableMapping
from sync_service.postgres.catalogue import Table
from sync_service.postgres.conversion import TIMES, scrubbed

# Clerk's IDs have 32 characters today.
SHORTEST_ID = 32


@dataclass(frozen=True, slots=True)
class Obstacle:
    """`code` is for programs, `name` the table or column that is in the way, `why` the rest of the sentence."""

    code: str
    name: str
    why: str
    column: str | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


def obstacles(mapping: TableMapping, table: Table) -> Iterator[str]:
    """Yield why the mapping cannot work with the table: sentences that begin with the name of what is in the way."""
    return map(str, for_all(mapping, table))


def warnings(mapping: TableMapping, table: Table) -> list[str]:
    """Return what will stand in the way of some users, though not of all: sentences that name the column."""
    return [str(obstacle) for obstacle in for_some(mapping, table)]


def for_all(mapping: TableMapping, table: Table) -> Iterator[Obstacle]:
    """Yield what stands in the way of every user: with it, the service does not write at all."""
    if table.kind not in {"r", "p"}:
        yield Obstacle("not_a_table", mapping.name, "is a view or a foreign table; name the table behind it")
        return
    yield from _id_faults(mapping, table)
    yield from _column_faults(mapping, table)
    if not table.usable:
        why = "the role of DATABASE_URL may not use this schema; grant usage on it"
        yield Obstacle("no_schema_privilege", mapping.schema, why)
    for sequence in table.closed_sequences:
        why = f"the role of DATABASE_URL may not draw {mapping.name}'s defaults from it; grant usage on it"
        yield Obstacle("no_sequence_privilege", sequence, why)
    needed = {"SELECT", "INSERT", "UPDATE"} | ({"DELETE"} if mapping.on_delete == "cascade" else set())
    if missing := sorted(needed - table.privileges):
        why = f"the role of DATABASE_URL may not {', '.join(missing)}; grant it"
        yield Obstacle("no_privilege", mapping.name, why)
    if table.row_security:
        why = "row-level security hides rows from the role of DATABASE_URL; it needs BYPASSRLS"
        yield Obstacle("row_security", mapping.name, why)


def _column_faults(mapping: TableMapping, table: Table) -> Iterator[Obstacle]:
    for name, spec in mapping.columns.items():
        column = table.column(name)
        if column is None and not spec.optional:
            yield _missing("missing_column", mapping, table, name)
        scrubs = mapping.on_delete == "anonymize" and spec.personal
        if column and scrubs and not column.generated and scrubbed(spec, column) is None:
            why = f"is NOT NULL, and {column.type} can show nobody: give it a `when_null`"
            yield Obstacle("not_scrubbed", f"{mapping.name}.{name}", why, name)
    if mapping.deleted_at:
        column = table.column(mapping.deleted_at)
        if column is None:
            yield _missing("missing_deleted_at", mapping, table, mapping.deleted_at)
        elif column.base not in TIMES | {"bool"}:
            why = f"is {column.type}, and must be a time or a boolean"
            yield Obstacle("wrong_deleted_at", f"{mapping.name}.{column.name}", why, column.name)


def _id_faults(mapping: TableMapping, table: Table) -> Iterator[Obstacle]:
    name = f"{mapping.name}.{mapping.clerk_id}"
    column = table.column(mapping.clerk_id)
    if column is None:
        yield _missing("missing_clerk_id", mapping, table, mapping.clerk_id, "; it is to hold the Clerk ID")
    elif column.category != "S":
        why = f"is {column.type}, which cannot hold a Clerk ID (user_…); name a column of text"
        yield Obstacle("wrong_clerk_id_type", name, why, column.name)
    elif column.length is not None and column.length < SHORTEST_ID:
        why = f"is {column.type}, too short for a Clerk ID, which has {SHORTEST_ID} characters or more"
        yield Obstacle("short_clerk_id", name, why, column.name)
    elif not table.unique_on(mapping.clerk_id):
        why = "has no unique index; `sync-service doctor` prints the statement that makes it"
        yield Obstacle("missing_unique_index", name, why, column.name)


def for_some(mapping: TableMapping, table: Table) -> Iterator[Obstacle]:
    """Yield what some users will not get past: their events are parked."""
    for column in table.columns:
        name = f"{mapping.name}.{column.name}"
        if not column.not_null or column.generated or column.name == mapping.clerk_id:
            continue
        spec = mapping.columns.get(column.name)
        if spec is None and not column.has_default:
            why = "is NOT NULL, has no default, and no mapping fills it: no user can be inserted"
            yield Obstacle("not_null_unfilled", name, why, column.name)
        elif spec and spec.when_null is None and _may_be_null(spec):
            why = f"is NOT NULL, and Clerk's users may have no {spec.source}: give it a `when_null`"
            yield Obstacle("not_null_for_some", name, why, column.name)


def _may_be_null(spec: sources.Column) -> bool:
    never = {"id", "primary_email_verified", "banned", "locked", "public_metadata", "created_at", "updated_at", "$"}
    return spec.source is not None and spec.source not in never


def _missing(code: str, mapping: TableMapping, table: Table, name: str, purpose: str = "") -> Obstacle:
    close = get_close_matches(name, [column.name for column in table.columns], n=1)
    meant = f"; is {close[0]} meant?" if close else ""
    return Obstacle(code, f"{mapping.name}.{name}", f"there is no such column{meant}{purpose}", name)
