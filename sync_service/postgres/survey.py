"""What stands around the users table, as the catalogue tells it; nothing here counts the app's rows."""

import contextlib
from collections.abc import AsyncIterator
from importlib.resources import files

import asyncpg
import msgspec
from msgspec import Struct

from sync_service.postgres.catalogue import Table
from sync_service.postgres.pool import Connection
from sync_service.postgres.statements import quoted


class Server(Struct, frozen=True):
    """`pooled`: a transaction pooler is in between. `refused` are our own tables that the role may not write."""

    version: int
    version_text: str
    read_only: bool
    role: str
    database: str
    may_create: bool
    pooled: bool
    refused: tuple[str, ...]


class ForeignKey(Struct, frozen=True):
    """`on_delete` is pg_constraint.confdeltype: a no action, r restrict, c cascade, n set null, d set default.

    `rows` is PostgreSQL's own estimate. `indexes` are those that have one of the columns, as PostgreSQL prints them.
    """

    name: str
    child: int
    parent: int
    schema: str
    table: str
    parent_schema: str
    parent_table: str
    partitioned: bool
    on_delete: str
    validated: bool
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]
    indexed: bool
    indexes: tuple[str, ...]
    rows: int

    @property
    def where(self) -> str:
        """Table and columns, for people."""
        return f"{self.schema}.{self.table}.{', '.join(self.columns)}"


class LooseColumn(Struct, frozen=True):
    """A column that no foreign key binds. `bound`: its table has another that refers to the users table."""

    schema: str
    table: str
    partitioned: bool
    column: str
    type: str
    category: str
    base: str
    length: int | None
    indexed: bool
    bound: bool

    @property
    def where(self) -> str:
        """Table and column, for people."""
        return f"{self.schema}.{self.table}.{self.column}"


@contextlib.asynccontextmanager
async def briefly(connection: Connection, seconds: float = 10) -> AsyncIterator[None]:
    """Read for so long at most, and wait a second for a lock: of the transaction, for a pooler keeps no session."""
    async with connection.transaction(readonly=True):
        await connection.execute(_LIMITS, str(max(1, round(seconds * 1000))))
        yield


async def read_server(connection: asyncpg.Connection) -> Server:
    """Return what the server says of itself and of us. Raises what asyncpg raises."""
    row = dict(await connection.fetchrow(_of("server.sql")) or {})
    # A pooler gives itself away, as in the pool: the process ID of its greeting is not the server's.
    row["pooled"] = row.pop("pid") != connection.get_server_pid()
    return msgspec.convert(row, Server)


async def read_foreign_keys(connection: Connection, table: int) -> list[ForeignKey]:
    """Return the foreign keys below a table, to any depth. Raises what asyncpg raises."""
    async with briefly(connection):
        rows = await connection.fetch(_of("foreign_keys.sql"), table)
    return [msgspec.convert(dict(row), ForeignKey) for row in rows]


async def read_loose_columns(connection: Connection, table: int) -> list[LooseColumn]:
    """Return the columns of the app that could hold a key and are bound to none. Raises what asyncpg raises."""
    async with briefly(connection):
        rows = await connection.fetch(_of("loose_columns.sql"), table)
    return [msgspec.convert(dict(row), LooseColumn) for row in rows]


async def read_tables(connection: Connection) -> list[tuple[str, str]]:
    """Return schema and name of the app's tables. Raises what asyncpg raises."""
    return [(row["schema"], row["name"]) for row in await connection.fetch(_TABLES)]


async def holds_other_ids(connection: Connection, table: Table, column: str) -> bool:
    """Return whether a column has values, and the first thousand are all no Clerk IDs. Raises what asyncpg raises."""
    sql = _OTHER_IDS.format(column=quoted(column), table=f"{quoted(table.schema)}.{quoted(table.name)}")
    return bool(await connection.fetchval(sql))


def _of(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


_LIMITS = "select set_config('statement_timeout', $1, true), set_config('lock_timeout', '1000', true)"

_TABLES = """
select n.nspname::text as schema, c.relname::text as name
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition
    and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'clerk_sync', 'auth', 'storage')
order by 1, 2
"""

_OTHER_IDS = """
select coalesce(bool_and(id !~ '^user_'), false)
from (select {column}::text as id from {table} limit 1000) as t
"""
