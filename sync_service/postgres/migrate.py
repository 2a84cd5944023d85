"""Brings the schema `clerk_sync` up to date, and reports whether it is.

Considered instead: asyncpg-trek (no checksum, no lock against a second process, last release 2024), yoyo and dbmate
(other drivers). The needed part is a few lines.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import asyncpg

from sync_service.errors import SchemaError
from sync_service.postgres.pool import Connection

# The key of an advisory lock. Any number works that no other application of the database uses.
LOCK_KEY = 25375_7962


@dataclass(frozen=True, slots=True)
class Migration:
    """One file, `0001_purpose.sql`."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """The SHA-256 of the file, which shows an edit after its release."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The version of the database's schema, and the version that this code needs."""

    version: int
    needed: int

    @property
    def is_ready(self) -> bool:
        """Whether this code can run on that schema."""
        return self.version == self.needed

    def __str__(self) -> str:
        if self.is_ready:
            return f"The schema is up to date, at version {self.version}."
        if self.version < self.needed:
            return f"The schema is at version {self.version}, behind {self.needed}: run `sync-service migrate`."
        return f"The schema is at version {self.version}, ahead of {self.needed}: deploy the newer sync-service."


@cache
def list_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this package, in order."""
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in files("sync_service.postgres.migrations").iterdir()
        if (match := re.fullmatch(r"([0-9]{4})_(\w+)\.sql", file.name))
    ]
    return tuple(sorted(found, key=lambda migration: migration.version))


def get_needed_version() -> int:
    """Return the version of the schema that this code needs."""
    return list_migrations()[-1].version


async def read_schema_state(connection: Connection) -> SchemaState:
    """Return the version of the database's schema. Raises the errors of asyncpg."""
    try:
        version = await connection.fetchval("select coalesce(max(version), 0) from clerk_sync.migrations")
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        version = 0
    return SchemaState(version, get_needed_version())


async def lock_migrations(connection: Connection) -> None:
    """Wait until no other process migrates; the lock ends with the transaction.

    A lock of the session would not work behind a transaction pooler, which shares sessions.
    """
    await connection.execute("select pg_advisory_xact_lock($1)", LOCK_KEY)


async def migrate(connection: Connection) -> list[Migration]:
    """Run the missing migrations, each in a transaction with its record; return those that ran.

    Any number of processes may call this at once: one works, the others wait and find no work. Raises `SchemaError`
    when the database is ahead of this code, or when a migration was edited after it ran.
    """
    ran: list[Migration] = []
    for migration in list_migrations():
        async with connection.transaction():
            await lock_migrations(connection)
            await connection.execute(_CREATE_MIGRATIONS)
            rows = await connection.fetch("select version, checksum from clerk_sync.migrations")
            applied: dict[int, str] = {row["version"]: row["checksum"] for row in rows}
            _check_applied(applied)
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


def _check_applied(applied: dict[int, str]) -> None:
    known = {migration.version: migration for migration in list_migrations()}
    if applied and max(applied) > get_needed_version():
        raise SchemaError(str(SchemaState(max(applied), get_needed_version())))
    for version, checksum in sorted(applied.items()):
        if known[version].checksum != checksum:
            raise SchemaError(
                f"Migration {version:04} ({known[version].name}) ran with another text than this package contains."
                " Install the release that ran it; a released migration is never edited."
            )


_CREATE_MIGRATIONS = """
create schema if not exists clerk_sync;
create table if not exists clerk_sync.migrations (
    version integer primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
)
"""
