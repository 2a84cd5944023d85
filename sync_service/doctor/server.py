"""The database as a place to work in: version, rights, schema (pure)."""

from collections.abc import Iterator

from sync_service.doctor.findings import Finding
from sync_service.dsn import Dsn
from sync_service.postgres import cures
from sync_service.postgres.schema import SchemaState
from sync_service.postgres.survey import Server

# What the statements need: generated columns (12), and `union` of what PostgreSQL 13 knows of partitions' keys.
OLDEST = 130000


def unreachable(why: str) -> Finding:
    """Return that there is no database to look at."""
    return Finding(
        code="unreachable_database",
        kind="wrong",
        what=why,
        why="Nothing can be stored: every webhook is answered 503, and Clerk keeps what it can for some days.",
        do=("compare DATABASE_URL with what your platform shows; does the server run, does it let this machine in?",),
    )


def server_findings(server: Server, dsn: Dsn, state: SchemaState | None) -> Iterator[Finding]:
    """Yield what the server and our schema tell; without a `state` it may not be read."""
    if server.version < OLDEST:
        yield Finding(
            code="old_postgres",
            kind="wrong",
            what=f"PostgreSQL {server.version_text} is older than 13",
            why="Statements of the service need what 13 has; it is tested on 15 and 18.",
            do=("upgrade the server",),
            data={"version": server.version},
        )
    if server.read_only:
        yield Finding(
            code="read_only_database",
            kind="wrong",
            what="the database of DATABASE_URL takes no writes: a standby, or read-only by a setting",
            why="Every webhook is answered 503.",
            do=("name the primary in DATABASE_URL",),
        )
    if state and not state.ready:
        yield from _schema_findings(server, state)
    if server.refused:
        yield Finding(
            code="no_privilege_ours",
            kind="wrong",
            what=f"the role of DATABASE_URL may not write clerk_sync.{', clerk_sync.'.join(server.refused)}",
            why="No event can be stored.",
            run=cures.grant_ours(server.role),
            data={"tables": list(server.refused)},
        )
    pooled = server.pooled or dsn.transaction_pooler
    yield Finding(
        code="database",
        kind="note",
        what=f"PostgreSQL {server.version_text}"
        + (", behind a transaction pooler" if pooled else "")
        + (f"; schema clerk_sync at version {state.version} of {state.needed}" if state else ""),
        why="Tested on 15 and 18, with and without a pooler." + (" No prepared statements are used." if pooled else ""),
        data={"version": server.version, "pooled": pooled, "schema": state.version if state else None},
    )


def _schema_findings(server: Server, state: SchemaState) -> Iterator[Finding]:
    ahead = state.version > state.needed
    may_not = state.version == 0 and not server.may_create
    if may_not:
        yield Finding(
            code="may_not_migrate",
            kind="wrong",
            what="the role of DATABASE_URL may not create the schema clerk_sync",
            why="`sync-service migrate` makes it; run it as another role, or grant this.",
            run=(cures.grant_create(server.role, server.database),),
        )
    yield Finding(
        code="schema_ahead" if ahead else "schema_behind" if state.version else "never_migrated",
        kind="wrong",
        what=str(state).partition(":")[0].rstrip("."),
        why="Every webhook is answered 503 until the two agree; Clerk keeps the events meanwhile.",
        run=() if ahead else ("sync-service migrate",),
        do=("deploy the newer sync-service",) if ahead else (),
        data={"version": state.version, "needed": state.needed},
    )
