"""Validation of a mapping against its table: issues of all users, and issues of some users (pure)."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from sync_service.mapping import sources
from sync_service.mapping.table import TableMapping
from sync_service.postgres.catalogue import Column, Table
from sync_service.postgres.conversion import TIMES, scrubbed

# Today Clerk's IDs have 32 characters.
SHORTEST_ID = 32

# `doctor` removes this part, because it prints the statement itself.
DOCTOR_HINT = "; `sync-service doctor` prints the statement that creates it"

# Clerk always sends a value for these fields, or sync-service computes one.
_NEVER_NULL = frozenset(
    {"id", "primary_email_verified", "banned", "locked", "public_metadata", "created_at", "updated_at", sources.WHOLE}
)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One issue of a mapping with its table.

    `code` is for programs. `name` is the table, column, schema or sequence with the issue; `why` ends the sentence.
    """

    code: str
    name: str
    why: str
    column: str | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


def obstacles(mapping: TableMapping, table: Table) -> Iterator[str]:
    """Return an iterator of sentences that explain why the mapping cannot be used; each begins with a name."""
    return map(str, for_all(mapping, table))


def warnings(mapping: TableMapping, table: Table) -> list[str]:
    """Return sentences about columns that cause problems for some users."""
    return [str(obstacle) for obstacle in for_some(mapping, table)]


def for_all(mapping: TableMapping, table: Table) -> Iterator[Obstacle]:
    """Yield the issues that affect every user. With any of them, the service does not write to the table."""
    if table.kind not in {"r", "p"}:
        yield Obstacle("not_a_table", mapping.name, "is a view or a foreign table; name the table behind it")
        return
    yield from _check_clerk_id(mapping, table)
    yield from _check_columns(mapping, table)
    yield from _check_deleted_at(mapping, table)
    yield from _check_privileges(mapping, table)


def _check_privileges(mapping: TableMapping, table: Table) -> Iterator[Obstacle]:
    if not table.usable:
        why = "the role of DATABASE_URL may not use this schema; grant usage on it"
        yield Obstacle("no_schema_privilege", mapping.schema, why)
    for sequence in table.closed_sequences:
        why = f"the role of DATABASE_URL may not draw defaults of {mapping.name} from it; grant usage on it"
        yield Obstacle("no_sequence_privilege", sequence, why)
    needed = {"SELECT", "INSERT", "UPDATE"}
    if mapping.on_delete == "cascade":
        needed.add("DELETE")
    if missing := sorted(needed - table.privileges):
        why = f"the role of DATABASE_URL may not {', '.join(missing)}; grant it"
        yield Obstacle("no_privilege", mapping.name, why)
    if table.row_security:
        why = "row-level security hides rows from the role of DATABASE_URL; it needs BYPASSRLS"
        yield Obstacle("row_security", mapping.name, why)


def _check_columns(mapping: TableMapping, table: Table) -> Iterator[Obstacle]:
    for name, spec in mapping.columns.items():
        column = table.column(name)
        if column is None and not spec.optional:
            yield _report_missing_column("missing_column", mapping, table, name)
        if column and mapping.on_delete == "anonymize" and not _can_be_anonymized(spec, column):
            why = f"is NOT NULL, and no value of {column.type} is anonymous: set a `when_null` for it"
            yield Obstacle("not_scrubbed", f"{mapping.name}.{name}", why, name)


def _can_be_anonymized(spec: sources.Column, column: Column) -> bool:
    return not spec.personal or column.generated or scrubbed(spec, column) is not None


def _check_deleted_at(mapping: TableMapping, table: Table) -> Iterator[Obstacle]:
    if not mapping.deleted_at:
        return
    column = table.column(mapping.deleted_at)
    if column is None:
        yield _report_missing_column("missing_deleted_at", mapping, table, mapping.deleted_at)
    elif column.base not in TIMES | {"bool"}:
        why = f"is {column.type}, and must be a time or a boolean"
        yield Obstacle("wrong_deleted_at", f"{mapping.name}.{column.name}", why, column.name)


def _check_clerk_id(mapping: TableMapping, table: Table) -> Iterator[Obstacle]:
    name = f"{mapping.name}.{mapping.clerk_id}"
    column = table.column(mapping.clerk_id)
    if column is None:
        purpose = "; it must hold the Clerk ID"
        yield _report_missing_column("missing_clerk_id", mapping, table, mapping.clerk_id, purpose)
    elif column.category != "S":
        why = f"is {column.type}, which cannot hold a Clerk ID (user_…); name a column of text"
        yield Obstacle("wrong_clerk_id_type", name, why, column.name)
    elif column.length is not None and column.length < SHORTEST_ID:
        why = f"is {column.type}, too short for a Clerk ID, which has {SHORTEST_ID} characters or more"
        yield Obstacle("short_clerk_id", name, why, column.name)
    elif not table.unique_on(mapping.clerk_id):
        why = f"has no unique index{DOCTOR_HINT}"
        yield Obstacle("missing_unique_index", name, why, column.name)


def for_some(mapping: TableMapping, table: Table) -> Iterator[Obstacle]:
    """Yield the issues that affect some users; their events are parked."""
    for name in insisting(mapping, table):
        why = "is NOT NULL, has no default, and no mapping fills it: no user can be inserted"
        yield Obstacle("not_null_unfilled", f"{mapping.name}.{name}", why, name)
    for name, spec in mapping.columns.items():
        column = table.column(name)
        refuses_null = column is not None and column.not_null and not column.generated
        if refuses_null and spec.when_null is None and _can_be_null(spec):
            why = f"is NOT NULL, and a Clerk user may have no {spec.source}: set a `when_null` for it"
            yield Obstacle("not_null_for_some", f"{mapping.name}.{name}", why, name)


def insisting(mapping: TableMapping, table: Table) -> list[str]:
    """Return the NOT NULL columns that neither the mapping nor a default fills in a new row."""
    filled = {mapping.clerk_id, *mapping.columns}
    return [
        column.name
        for column in table.columns
        if column.not_null and not (column.has_default or column.generated or column.name in filled)
    ]


def _can_be_null(spec: sources.Column) -> bool:
    return spec.source is not None and spec.source not in _NEVER_NULL


def _report_missing_column(code: str, mapping: TableMapping, table: Table, name: str, purpose: str = "") -> Obstacle:
    close = get_close_matches(name, [column.name for column in table.columns], n=1)
    meant = f"; is {close[0]} meant?" if close else ""
    return Obstacle(code, f"{mapping.name}.{name}", f"there is no such column{meant}{purpose}", name)
