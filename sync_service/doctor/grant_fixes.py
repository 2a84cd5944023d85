"""Statements that grant the privileges of our role; an owner of the object runs them, or a superuser (pure)."""

from collections.abc import Sequence

from sync_service.mapping.introspection import Table
from sync_service.postgres.sql import quote_ident, quote_table


def grant_table(table: Table, privileges: Sequence[str], role: str) -> tuple[str, ...]:
    """Return the grants that let a role work on a table; the owner of the table runs them."""
    return (
        grant_schema(table.schema, role),
        f"grant {', '.join(privileges).lower()} on {quote_table(table.schema, table.name)} to {quote_ident(role)};",
    )


def grant_schema(schema: str, role: str) -> str:
    """Return the grant that lets a role use a schema; the owner of the schema runs it."""
    return f"grant usage on schema {quote_ident(schema)} to {quote_ident(role)};"


def grant_sequence(sequence: str, role: str) -> str:
    """Return the grant that lets a role use a sequence for defaults. `sequence` is a name as PostgreSQL prints it."""
    return f"grant usage on sequence {sequence} to {quote_ident(role)};"


def grant_clerk_sync(role: str) -> tuple[str, ...]:
    """Return the grants on the service's tables, for a role that does not run the migrations."""
    return (
        f"grant usage on schema clerk_sync to {quote_ident(role)};",
        f"grant select, insert, update, delete on all tables in schema clerk_sync to {quote_ident(role)};",
    )


def grant_create_schema(role: str, database: str) -> str:
    """Return the grant that lets a role create the service's schema."""
    return f"grant create on database {quote_ident(database)} to {quote_ident(role)};"


def bypass_row_security(role: str) -> str:
    """Return the statement that shows all rows to a role; a superuser runs it."""
    return f"alter role {quote_ident(role)} bypassrls;"
