"""Counts of the app's rows, each bounded in time, read-only and in a transaction of its own: nobody waits for them."""

import time
from collections.abc import Sequence
from typing import Any

import asyncpg
from msgspec import Struct

from sync_service.mapping.table import TableMapping
from sync_service.postgres.catalogue import Column, Table
from sync_service.postgres.pool import Connection
from sync_service.postgres.statements import quoted
from sync_service.postgres.survey import ForeignKey, LooseColumn, briefly

# One count may take so long, all of them together so long: an owner is told in a minute.
ONE = 5.0
ALL = 40.0

# A table below this is counted in less than a second; of one above it PostgreSQL's estimate is good enough.
SMALL = 64 * 1024 * 1024

# As many as Clerk is asked about in one request.
ASKED = 100

_REFUSED = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, asyncpg.InsufficientPrivilegeError)


class Users(Struct, frozen=True):
    """The users table in numbers; None is not counted. `odd` are Clerk IDs that do not look like one."""

    rows: int | None = None
    with_clerk_id: int | None = None
    odd: int | None = None
    twice: int | None = None
    addresses_shared: int | None = None
    rows_sharing: int | None = None
    never_seen: int | None = None

    @property
    def without_clerk_id(self) -> int | None:
        """Those that are not linked with anybody in Clerk."""
        return None if self.rows is None or self.with_clerk_id is None else self.rows - self.with_clerk_id


class Inbox(Struct, frozen=True):
    """`seconds` are ago. `logins` are users who became known otherwise than by a webhook, after the last one."""

    installed_seconds: float
    silent_seconds: float | None
    pinned: str | None
    bytes: int
    failed: int | None = None
    oldest_failed_seconds: float | None = None
    dead: int | None = None
    identities: int | None = None
    logins: int | None = None
    addresses_wanted: int | None = None


class Counter:
    """Counts, until its time is up; what cannot be counted in time, or may not be read, is None."""

    def __init__(self, connection: Connection, *, one: float = ONE, together: float = ALL) -> None:
        self._connection = connection
        self._one = one
        self._until = time.monotonic() + together

    async def inbox(self) -> Inbox:
        """Return how the inbox stands. Raises what asyncpg raises, also where our schema is not there."""
        found = dict(await self._connection.fetchrow(_INBOX) or {})
        for sql in (_FAILED, _DEAD, _IDENTITIES):
            found |= await self._row(sql)
        return Inbox(**found)

    async def users(self, mapping: TableMapping, table: Table, *, ours: bool) -> Users:
        """Return the users table in numbers; `ours`: the service's own schema is there to compare with."""
        name, clerk_id = _table(table), quoted(mapping.clerk_id)
        found: dict[str, int | None] = {}
        if not table.column(mapping.clerk_id):
            found |= await self._row(f"select count(*) as rows, 0 as with_clerk_id from {name}")  # noqa: S608  quoted
        else:
            found |= await self._row(_USERS.format(table=name, clerk_id=clerk_id))
            found |= await self._row(_TWICE.format(table=name, clerk_id=clerk_id))
            if ours:
                found |= await self._row(_NEVER_SEEN.format(table=name, clerk_id=clerk_id))
        if address := address_column(mapping, table):
            found |= await self._row(_SHARED.format(table=name, email=quoted(address)))
        return Users(**found)

    async def never_seen(self, mapping: TableMapping, table: Table) -> list[str]:
        """Return some Clerk IDs of the table that the service has never heard of."""
        sql = _SAMPLE.format(table=_table(table), clerk_id=quoted(mapping.clerk_id))
        return (await self._row(sql, ASKED)).get("ids") or []

    async def rows(self, key: ForeignKey) -> int | None:
        """Return how many rows the referring table has, exactly where that costs little."""
        size = (await self._row(_SIZE, key.child)).get("bytes")
        if size is None or size > SMALL:
            return key.rows or None
        found = await self._row(f"select count(*) as n from {quoted(key.schema)}.{quoted(key.table)}")  # noqa: S608  quoted
        return found.get("n")

    async def most(self, path: Sequence[ForeignKey]) -> int | None:
        """Return how many rows at the end of a chain of foreign keys belong to the one user who has most."""
        joins = []
        for n, lower in enumerate(path[1:], start=1):
            same = _same(f"r{n}", lower.columns, f"r{n - 1}", lower.parent_columns)
            joins.append(f" join {quoted(lower.schema)}.{quoted(lower.table)} as r{n} on {same}")
        first = path[0]
        users = ", ".join(f"r0.{quoted(name)}" for name in first.columns)
        given = " and ".join(f"r0.{quoted(name)} is not null" for name in first.columns)
        found = await self._row(
            f"select coalesce(max(n), 0) as most from (select count(*) as n"  # noqa: S608  quoted names
            f" from {quoted(first.schema)}.{quoted(first.table)} as r0{''.join(joins)} where {given}"
            f" group by {users}) as each"
        )
        return found.get("most")

    async def orphans(
        self, schema: str, table: str, columns: Sequence[str], parent: str, parent_columns: Sequence[str]
    ) -> tuple[int | None, int | None]:
        """Return how many rows name a user, and how many of them one who is not there. `parent` is a quoted table."""
        given = " and ".join(f"child.{quoted(name)} is not null" for name in columns)
        same = _same("parent", parent_columns, "child", columns)
        found = await self._row(
            f"select count(*) as rows, count(*) filter (where not exists"  # noqa: S608  quoted names
            f" (select from {parent} as parent where {same})) as orphans"
            f" from {quoted(schema)}.{quoted(table)} as child where {given}"
        )
        return found.get("rows"), found.get("orphans")

    async def loose_orphans(self, loose: LooseColumn, table: Table, column: str) -> tuple[int | None, int | None]:
        """Return the same for a column without a foreign key."""
        return await self.orphans(loose.schema, loose.table, [loose.column], _table(table), [column])

    async def of_the_deleted(self, key: ForeignKey, deleted_at: Column) -> int | None:
        """Return how many rows belong to users who are marked as deleted."""
        marked = "parent.{0}" if deleted_at.base == "bool" else "parent.{0} is not null"
        found = await self._row(
            f"select count(*) as n from {quoted(key.schema)}.{quoted(key.table)} as child"  # noqa: S608  quoted names
            f" join {quoted(key.parent_schema)}.{quoted(key.parent_table)} as parent"
            f" on {_same('parent', key.parent_columns, 'child', key.columns)}"
            f" where {marked.format(quoted(deleted_at.name))}"
        )
        return found.get("n")

    async def _row(self, sql: str, *parameters: object) -> dict[str, Any]:
        """Return the row, or nothing when time is up. Raises what else asyncpg raises."""
        seconds = min(self._one, self._until - time.monotonic())
        if seconds <= 0:
            return {}
        try:
            async with briefly(self._connection, seconds):
                return dict(await self._connection.fetchrow(sql, *parameters) or {})
        except _REFUSED:
            return {}


def address_column(mapping: TableMapping, table: Table) -> str | None:
    """Return the column that holds the user's address, by the mapping or else by its name."""
    mapped = (name for name, column in mapping.columns.items() if column.source == "primary_email")
    return next((name for name in (*mapped, "email", "email_address") if table.column(name)), None)


def _same(left: str, ours: Sequence[str], right: str, theirs: Sequence[str]) -> str:
    pairs = zip(ours, theirs, strict=True)
    return " and ".join(f"{left}.{quoted(one)} = {right}.{quoted(other)}" for one, other in pairs)


def _table(table: Table) -> str:
    return f"{quoted(table.schema)}.{quoted(table.name)}"


# A Clerk ID is user_ and letters and digits; '' is nobody's, and most tables that have it mean null.
_USERS = """
select
    count(*) as rows,
    count(nullif({clerk_id}::text, '')) as with_clerk_id,
    count(*) filter (where {clerk_id}::text <> '' and {clerk_id}::text !~ '^user_[A-Za-z0-9]+$') as odd
from {table}
"""

_SIZE = """
select sum(pg_table_size(c.oid))::bigint as bytes from pg_class as c
where c.oid = $1::oid or c.oid in (select t.relid from pg_partition_tree($1::oid) as t)
"""

_TWICE = """
select count(*) as twice
from (select from {table} where {clerk_id} is not null group by {clerk_id} having count(*) > 1) as t
"""

_SHARED = """
select count(*) as addresses_shared, coalesce(sum(n), 0)::bigint as rows_sharing
from (
    select count(*) as n from {table} where nullif({email}::text, '') is not null
    group by lower({email}::text) having count(*) > 1
) as t
"""

_NEVER_SEEN = """
select count(*) as never_seen from {table} as app
where {clerk_id}::text <> ''
    and not exists (select from clerk_sync.identities as known where known.clerk_id = app.{clerk_id}::text)
"""

_SAMPLE = """
select array_agg(id) as ids
from (
    select app.{clerk_id}::text as id from {table} as app
    where {clerk_id}::text <> ''
        and not exists (select from clerk_sync.identities as known where known.clerk_id = app.{clerk_id}::text)
    limit $1
) as t
"""

_INBOX = """
select
    extract(epoch from now() - (select min(applied_at) from clerk_sync.migrations))::float8 as installed_seconds,
    extract(epoch from now() - (select max(received_at) from clerk_sync.events))::float8 as silent_seconds,
    (select id from clerk_sync.instance) as pinned,
    pg_total_relation_size('clerk_sync.events') as bytes
"""

_FAILED = """
select count(*) as failed, extract(epoch from now() - min(received_at))::float8 as oldest_failed_seconds
from clerk_sync.events where status = 'failed'
"""

_DEAD = "select count(*) as dead from clerk_sync.events where status = 'dead'"

_IDENTITIES = """
select
    count(*) as identities,
    count(*) filter (where created_by <> 'webhook'
        and first_seen_at > coalesce((select max(received_at) from clerk_sync.events), '-infinity')) as logins,
    count(*) filter (where address_wanted) as addresses_wanted
from clerk_sync.identities
"""
