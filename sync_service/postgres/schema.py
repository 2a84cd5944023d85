"""Brings the schema `clerk_sync` up to date, and tells whether it is.

Looked for first: asyncpg-trek (no checksum, no lock against a second process, last released 2024), yoyo and dbmate
(other drivers). What is needed is a few lines.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import asyncpg

from sync_service.errors import SchemaError
from sync_service.mapping.table import TableMapping
from sync_service.postgres.pool import Connection

# Any number does, so long as nobody else takes it: the letters "clerk" and "sync" on a telephone.
LOCK = 25375_7962


@dataclass(frozen=True, slots=True)
class Migration:
    """One file, `0001_what_it_does.sql`."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Tells whether the file that ran is the file that is here."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SchemaState:
    """How the database stands to this code. Ready means: neither behind nor ahead."""

    version: int
    needed: int

    @property
    def ready(self) -> bool:
        """Whether this code may run on that schema."""
        return self.version == self.needed

    def __str__(self) -> str:
        if self.ready:
            return f"The schema is up to date, at version {self.version}."
        if self.version < self.needed:
            return f"The schema is at version {self.version}, behind {self.needed}: run `sync-service migrate`."
        return f"The schema is at version {self.version}, ahead of {self.needed}: deploy the newer sync-service."


@cache
def known_migrations() -> tuple[Migration, ...]:
    """Return the files of this package, in order."""
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in files("sync_service.postgres.migrations").iterdir()
        if (match := re.fullmatch(r"([0-9]{4})_(\w+)\.sql", file.name))
    ]
    return tuple(sorted(found, key=lambda migration: migration.version))


def needed_version() -> int:
    """Return the version of the schema that this code is written for."""
    return known_migrations()[-1].version


async def schema_state(connection: Connection) -> SchemaState:
    """Return how the database stands. Raises what asyncpg raises."""
    try:
        version = await connection.fetchval("select coalesce(max(version), 0) from clerk_sync.migrations")
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        version = 0
    return SchemaState(version, needed_version())


async def migrate(connection: Connection) -> list[Migration]:
    """Run what has not run, each file in a transaction with its record; return what ran.

    Any number of processes may call this at once: one works, the others wait and find nothing to do. Raises
    `SchemaError` when the database is ahead, or when a file that ran is not the file that is here.
    """
    ran: list[Migration] = []
    for migration in known_migrations():
        async with connection.transaction():
            # Of the transaction, not of the session: behind a pooler a session is nobody's.
            await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
            await connection.execute(_RECORD)
            rows = await connection.fetch("select version, checksum from clerk_sync.migrations")
            applied: dict[int, str] = {row["version"]: row["checksum"] for row in rows}
            _check(applied)
            if migration.version not in applied:
                await connection.execute(migration.sql)
                await connection.execute(
                    "insert into clerk_sync.migrations (version, name, checksum) values ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.checksum,
                )
                ran.append(migration)
    return ran


async def create_users(connection: Connection, mapping: TableMapping) -> None:
    """Create the table of a mapping that is ours to create, where there is none; any other is the app's, as it is."""
    if mapping.created_by is None:
        return
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
        await connection.execute(
            files("sync_service.postgres").joinpath(mapping.created_by).read_text(encoding="utf-8")
        )


def _check(applied: dict[int, str]) -> None:
    here = {migration.version: migration for migration in known_migrations()}
    if applied and max(applied) > needed_version():
        raise SchemaError(str(SchemaState(max(applied), needed_version())))
    for version, checksum in sorted(applied.items()):
        if here[version].checksum != checksum:
            raise SchemaError(
                f"Migration {version:04} ({here[version].name}) ran in another form than this package has it."
                " Install the release that ran it; a released migration is never edited."
            )


_RECORD = """
create schema if not exists clerk_sync;
create table if not exists clerk_sync.migrations (
    version integer primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
)
"""
