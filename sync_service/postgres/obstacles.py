"""What in a table stands in the way of a mapping (pure): of all users, or of some."""

from collections.abc import Iterator
from difflib import get_close_matches

from sync_service.mapping import sources
from sync_service.mapping.table import TableMapping
from sync_service.postgres.catalogue import Table
from sync_service.postgres.conversion import TIMES, scrubbed

# Clerk's IDs have 32 characters today.
SHORTEST_ID = 32


def obstacles(mapping: TableMapping, table: Table) -> Iterator[str]:
    """Yield why the mapping cannot work with the table: sentences that begin with the name of what is in the way."""
    if table.kind not in {"r", "p"}:
        yield f"{mapping.name}: is a view or a foreign table; name the table behind it"
        return
    yield from _id_faults(mapping, table)
    yield from _column_faults(mapping, table)
    if not table.usable:
        yield f"{mapping.schema}: the role of DATABASE_URL may not use this schema; grant usage on it"
    for sequence in table.closed_sequences:
        yield f"{sequence}: the role of DATABASE_URL may not draw {mapping.name}'s defaults from it; grant usage on it"
    needed = {"SELECT", "INSERT", "UPDATE"} | ({"DELETE"} if mapping.on_delete == "cascade" else set())
    if missing := sorted(needed - table.privileges):
        yield f"{mapping.name}: the role of DATABASE_URL may not {', '.join(missing)}; grant it"
    if table.row_security:
        yield f"{mapping.name}: row-level security hides rows from the role of DATABASE_URL; it needs BYPASSRLS"


def _column_faults(mapping: TableMapping, table: Table) -> Iterator[str]:
    for name, spec in mapping.columns.items():
        column = table.column(name)
        if column is None and not spec.optional:
            yield f"{mapping.name}.{name}: there is no such column{_meant(table, name)}"
        scrubs = mapping.on_delete == "anonymize" and spec.personal
        if column and scrubs and not column.generated and scrubbed(spec, column) is None:
            yield f"{mapping.name}.{name}: is NOT NULL, and {column.type} can show nobody: give it a `when_null`"
    if mapping.deleted_at:
        column = table.column(mapping.deleted_at)
        if column is None:
            yield f"{mapping.name}.{mapping.deleted_at}: there is no such column{_meant(table, mapping.deleted_at)}"
        elif column.base not in TIMES | {"bool"}:
            yield f"{mapping.name}.{mapping.deleted_at}: is {column.type}, and must be a time or a boolean"


def _id_faults(mapping: TableMapping, table: Table) -> Iterator[str]:
    name = f"{mapping.name}.{mapping.clerk_id}"
    column = table.column(mapping.clerk_id)
    if column is None:
        yield f"{name}: there is no such column{_meant(table, mapping.clerk_id)}; it is to hold the Clerk ID"
    elif column.category != "S":
        yield f"{name}: is {column.type}, which cannot hold a Clerk ID (user_…); name a column of text"
    elif column.length is not None and column.length < SHORTEST_ID:
        yield f"{name}: is {column.type}, too short for a Clerk ID, which has {SHORTEST_ID} characters or more"
    elif not table.unique_on(mapping.clerk_id):
        yield f"{name}: has no unique index; `sync-service doctor` prints the statement that makes it"


def warnings(mapping: TableMapping, table: Table) -> list[str]:
    """Return what will stand in the way of some users, though not of all: sentences that name the column."""
    found = [
        f"{mapping.name}.{name}: is NOT NULL, has no default, and no mapping fills it: no user can be inserted"
        for name in insisting(mapping, table)
    ]
    for name, spec in mapping.columns.items():
        column = table.column(name)
        refuses = column is not None and column.not_null and not column.generated
        if refuses and spec.when_null is None and _may_be_null(spec):
            why = f"is NOT NULL, and Clerk's users may have no {spec.source}: give it a `when_null`"
            found.append(f"{mapping.name}.{name}: {why}")
    return found


def insisting(mapping: TableMapping, table: Table) -> list[str]:
    """Return the columns that a new row must have and neither the mapping nor a default fills."""
    filled = {mapping.clerk_id, *mapping.columns}
    return [
        column.name
        for column in table.columns
        if column.not_null and not (column.has_default or column.generated or column.name in filled)
    ]


def _may_be_null(spec: sources.Column) -> bool:
    never = {"id", "primary_email_verified", "banned", "locked", "public_metadata", "created_at", "updated_at", "$"}
    return spec.source is not None and spec.source not in never


def _meant(table: Table, name: str) -> str:
    close = get_close_matches(name, [column.name for column in table.columns], n=1)
    return f"; is {close[0]} meant?" if close else ""
