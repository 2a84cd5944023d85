"""Brings the schema `clerk_sync` up to date, and reports whether it is.

A rolling deployment runs two releases on one schema: the old one continues after the migrations of the new one. So a
migration only adds. One that removes or renames something which older code uses has a name that ends with
`_requires_NNNN`: code that needs a schema below that version refuses to run from then on.

Considered instead: asyncpg-trek (no checksum, no lock against a second process, last release 2024), yoyo and dbmate
(other drivers). The needed part is a few lines.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
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
    """The version of the database's schema, and the version that this code needs.

    `required` is the lowest version that code must need to run on this schema.
    """

    version: int
    needed: int
    required: int = 0

    @property
    def is_ready(self) -> bool:
        """Whether this code can run on that schema."""
        return self.required <= self.needed <= self.version

    def __str__(self) -> str:
        if self.version < self.needed:
            return f"The schema is at version {self.version}, behind {self.needed}: run `sync-service migrate`."
        if not self.is_ready:
            return f"The schema is at version {self.version}, ahead of {self.needed}: deploy the newer sync-service."
        if self.version > self.needed:
            return f"The schema is at version {self.version}, newer than {self.needed}. This release can use it."
        return f"The schema is up to date, at version {self.version}."


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
        rows = await connection.fetch("select version, name from clerk_sync.migrations")
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        rows = []
    return _build_state({row["version"]: row["name"] for row in rows})


def _build_state(applied: Mapping[int, str]) -> SchemaState:
    """Return the state of a schema by the names of the migrations that ran."""
    missing = [migration.version for migration in list_migrations() if migration.version not in applied]
    # A release may bring a migration with a lower number than one that ran.
    version = max((number for number in applied if not missing or number < missing[0]), default=0)
    requirements = [int(match[1]) for name in applied.values() if (match := _REQUIREMENT.search(name))]
    return SchemaState(version, get_needed_version(), max(requirements, default=0))


async def lock_migrations(connection: Connection) -> None:
    """Wait until no other process migrates; the lock ends with the transaction.

    A lock of the session would not work behind a transaction pooler, which shares sessions.
    """
    await connection.execute("select pg_advisory_xact_lock($1)", LOCK_KEY)


async def migrate(connection: Connection) -> list[Migration]:
    """Run the missing migrations, each in a transaction with its record; return those that ran.

    Any number of processes may call this at once: one works, the others wait and find no work. Raises `SchemaError`
    when this code is too old for the database, or when a migration was edited after it ran.
    """
    ran: list[Migration] = []
    for migration in list_migrations():
        async with connection.transaction():
            await lock_migrations(connection)
            await connection.execute(_CREATE_MIGRATIONS)
            applied = await connection.fetch(
                "select version, name, checksum from clerk_sync.migrations order by version"
            )
            _check_applied(applied)
            if migration.version not in {row["version"] for row in applied}:
                await connection.execute(migration.sql)
                await connection.execute(
                    "insert into clerk_sync.migrations (version, name, checksum) values ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.checksum,
                )
                ran.append(migration)
    return ran


def _check_applied(applied: Sequence[asyncpg.Record]) -> None:
    state = _build_state({row["version"]: row["name"] for row in applied})
    if state.required > state.needed:
        raise SchemaError(str(state))
    known = {migration.version: migration for migration in list_migrations()}
    for version, name, checksum in applied:
        if version in known and known[version].checksum != checksum:
            raise SchemaError(
                f"Migration {version:04} ({name}) ran with another text than this package contains."
                " Install the release that ran it; a released migration is never edited."
            )


_REQUIREMENT = re.compile(r"_requires_([0-9]{4})$")

_CREATE_MIGRATIONS = """
create schema if not exists clerk_sync;
create table if not exists clerk_sync.migrations (
    version integer primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
)
"""
