"""Checks of the database: version, privileges, state of the schema clerk_sync (pure)."""

from collections.abc import Iterator

from sync_service.doctor.findings import Finding
from sync_service.doctor.grant_fixes import grant_clerk_sync, grant_create_schema
from sync_service.doctor.introspection import Server
from sync_service.dsn import Dsn
from sync_service.postgres.migrate import SchemaState

# Generated columns need PostgreSQL 12. The catalogue queries on keys of partitioned tables and the built-in
# gen_random_uuid() need 13.
MIN_SERVER_VERSION = 130000


def report_unreachable_database(error: str) -> Finding:
    """Return the finding that no connection to the database is possible."""
    return Finding(
        code="unreachable_database",
        kind="wrong",
        what=error,
        why="No event can be stored. Every webhook gets status 503, and Clerk repeats it for some days only.",
        do=(
            "compare DATABASE_URL with the value that your platform shows",
            "check that the server runs and accepts connections from this machine",
        ),
    )


def check_server(server: Server, dsn: Dsn, state: SchemaState | None) -> Iterator[Finding]:
    """Yield the findings on server and schema. `state` is None if the role may not read the migrations."""
    if server.version < MIN_SERVER_VERSION:
        yield Finding(
            code="old_postgres",
            kind="wrong",
            what=f"PostgreSQL {server.version_text} is older than 13",
            why="The service uses statements that need 13. It is tested with 15 and 18.",
            do=("upgrade the server",),
            data={"version": server.version},
        )
    if server.read_only:
        yield Finding(
            code="read_only_database",
            kind="wrong",
            what="the database of DATABASE_URL is read-only: it is a standby, or a setting forbids writes",
            why="Every webhook gets status 503.",
            do=("set DATABASE_URL to the primary server",),
        )
    if state and not state.is_ready:
        yield from _check_schema(server, state)
    if server.unwritable_tables:
        yield Finding(
            code="no_privilege_ours",
            kind="wrong",
            what=f"the role of DATABASE_URL may not write clerk_sync.{', clerk_sync.'.join(server.unwritable_tables)}",
            why="No event can be stored.",
            run=grant_clerk_sync(server.role),
            data={"tables": list(server.unwritable_tables)},
        )
    yield _report_database(server, dsn, state)


def _check_schema(server: Server, state: SchemaState) -> Iterator[Finding]:
    if state.version == 0 and not server.can_create_schema:
        yield Finding(
            code="may_not_migrate",
            kind="wrong",
            what="the role of DATABASE_URL may not create the schema clerk_sync",
            why="`sync-service migrate` creates it. Run it with another role, or grant this privilege.",
            run=(grant_create_schema(server.role, server.database),),
        )
    is_ahead = state.version > state.needed
    code = "schema_behind" if state.version else "never_migrated"
    yield Finding(
        code="schema_ahead" if is_ahead else code,
        kind="wrong",
        what=str(state).partition(":")[0].rstrip("."),
        why="Every webhook gets status 503 until code and schema fit. Clerk repeats the events meanwhile.",
        run=() if is_ahead else ("sync-service migrate",),
        do=("deploy the newer sync-service",) if is_ahead else (),
        data={"version": state.version, "needed": state.needed},
    )


def _report_database(server: Server, dsn: Dsn, state: SchemaState | None) -> Finding:
    what, why = f"PostgreSQL {server.version_text}", "The service is tested with 15 and 18, with and without a pooler."
    is_pooled = server.pooled or dsn.is_transaction_pooler
    if is_pooled:
        what += ", behind a transaction pooler"
        why += " Behind this pooler it uses no prepared statements."
    if state:
        what += f"; schema clerk_sync at version {state.version} of {state.needed}"
    return Finding(
        code="database",
        kind="note",
        what=what,
        why=why,
        data={"version": server.version, "pooled": is_pooled, "schema": state.version if state else None},
    )
