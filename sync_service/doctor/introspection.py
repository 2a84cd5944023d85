"""Catalogue queries of the doctor: the server, the foreign keys below the users table, columns without one.

No query here counts the rows of the app.
"""

from collections.abc import Sequence

import asyncpg
import msgspec
from msgspec import Struct

from sync_service.postgres.limited_read import begin_limited_read
from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import read_sql


class Server(Struct, frozen=True):
    """The server and the rights of our role.

    `pooled`: the connection goes through a transaction pooler.
    `unwritable_tables` are the tables of schema clerk_sync that the role may not write.
    """

    version: int
    version_text: str
    read_only: bool
    role: str
    database: str
    can_create_schema: bool
    pooled: bool
    unwritable_tables: tuple[str, ...]


class ForeignKey(Struct, frozen=True):
    """A foreign key: the child table refers to the parent table.

    `on_delete` is pg_constraint.confdeltype: a no action, r restrict, c cascade, n set null, d set default.
    `required`: one of its columns is NOT NULL. `indexed`: a valid index begins with the columns. `indexes` are the
    definitions of all indexes with one of them.
    `estimated_rows` is PostgreSQL's estimate for the child table.
    """

    name: str
    child_oid: int
    parent_oid: int
    schema: str
    table: str
    parent_schema: str
    parent_table: str
    partitioned: bool
    on_delete: str
    validated: bool
    required: bool
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]
    indexed: bool
    indexes: tuple[str, ...]
    estimated_rows: int

    @property
    def id(self) -> tuple[int, str]:
        """OID of the child table and name of the constraint; together they are unique."""
        return self.child_oid, self.name

    @property
    def child_name(self) -> str:
        """Schema and name of the child table, for messages."""
        return f"{self.schema}.{self.table}"

    @property
    def parent_name(self) -> str:
        """Schema and name of the parent table, for messages."""
        return f"{self.parent_schema}.{self.parent_table}"

    @property
    def display_name(self) -> str:
        """Table and columns, for messages."""
        return f"{self.child_name}.{', '.join(self.columns)}"


class UnconstrainedColumn(Struct, frozen=True):
    """A column of the app without a foreign key.

    `already_referenced`: another column of its table has a foreign key to the users table.
    `base` is the type below a domain, `category` is pg_type.typcategory.
    """

    schema: str
    table: str
    partitioned: bool
    name: str
    type: str
    category: str
    base: str
    length: int | None
    indexed: bool
    already_referenced: bool

    @property
    def table_name(self) -> str:
        """Schema and name of the table, for messages."""
        return f"{self.schema}.{self.table}"

    @property
    def display_name(self) -> str:
        """Table and column, for messages."""
        return f"{self.table_name}.{self.name}"


async def read_server(connection: asyncpg.Connection) -> Server:
    """Return the server's version and the rights of our role. Raises errors of asyncpg."""
    row = dict(await connection.fetchrow(read_sql(__package__, "server.sql")) or {})
    # A pooler's greeting contains a process ID of its own, which differs from the server's.
    row["pooled"] = row.pop("pid") != connection.get_server_pid()
    return msgspec.convert(row, Server)


async def read_foreign_keys(connection: Connection, users_oid: int) -> list[ForeignKey]:
    """Return the foreign keys below the users table, to any depth. Raises errors of asyncpg."""
    async with begin_limited_read(connection):
        rows = await connection.fetch(read_sql(__package__, "foreign_keys.sql"), users_oid)
    return [msgspec.convert(dict(row), ForeignKey) for row in rows]


async def read_user_tables(connection: Connection, oids: Sequence[int]) -> list[tuple[str, str]]:
    """Return schema and name of these tables and of all tables below them. Raises errors of asyncpg."""
    async with begin_limited_read(connection):
        rows = await connection.fetch(read_sql(__package__, "user_tables.sql"), oids)
    return [(row["schema"], row["table"]) for row in rows]


async def read_unconstrained_columns(connection: Connection, users_oid: int) -> list[UnconstrainedColumn]:
    """Return the app's columns that could hold a key and have no foreign key. Raises errors of asyncpg."""
    async with begin_limited_read(connection):
        rows = await connection.fetch(read_sql(__package__, "unconstrained_columns.sql"), users_oid)
    return [msgspec.convert(dict(row), UnconstrainedColumn) for row in rows]
