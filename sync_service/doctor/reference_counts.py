"""Counts of the tables that refer to the users table: rows, rows of one user, rows without a user."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from sync_service.doctor.counts import Counter
from sync_service.doctor.introspection import ForeignKey, UnconstrainedColumn
from sync_service.mapping.introspection import Column, Table
from sync_service.postgres.sql import quote_ident, quote_table

# PostgreSQL counts a table up to this size in less than a second. Above it, its estimate is sufficient.
MAX_COUNTED_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class ReferenceCounts:
    """Counts for the graph of foreign keys; None means not counted.

    `users` are the rows of the users table. `rows` are by the child table's OID, the others by `ForeignKey.id`.
    `max_per_user` is the number of rows of the user with the most rows.
    `of_deleted_users` are rows of users marked as deleted.
    """

    users: int | None = None
    rows: dict[int, int | None] = field(default_factory=dict)
    max_per_user: dict[tuple[int, str], int | None] = field(default_factory=dict)
    of_deleted_users: dict[tuple[int, str], int | None] = field(default_factory=dict)


class OrphanCount(Struct, frozen=True):
    """`rows` have a value in the column, `orphans` have one that no row of the users table has.

    `clerk_ids` have the ID of a Clerk user. None means not counted.
    """

    rows: int | None = None
    orphans: int | None = None
    clerk_ids: int | None = None

    @property
    def matches(self) -> int:
        """The rows whose user exists."""
        return (self.rows or 0) - (self.orphans or 0)


async def count_child_rows(counter: Counter, key: ForeignKey) -> int | None:
    """Return the rows of the child table: counted if it is small, else PostgreSQL's estimate."""
    size = (await counter.fetch_row(_SIZE_SQL, key.child_oid)).get("bytes")
    if size is None or size > MAX_COUNTED_BYTES:
        return key.estimated_rows or None
    found = await counter.fetch_row(_ROWS_SQL.format(child=quote_table(key.schema, key.table)))
    return found.get("n")


async def max_rows_per_user(counter: Counter, path: Sequence[ForeignKey]) -> int | None:
    """Return the number of rows at the end of a path of foreign keys for the user with the most rows."""
    first = path[0]
    joins = []
    for n, key in enumerate(path[1:], start=1):
        condition = build_join_condition(f"r{n}", key.columns, f"r{n - 1}", key.parent_columns)
        joins.append(f"join {quote_table(key.schema, key.table)} as r{n} on {condition}")
    sql = _MAX_PER_USER_SQL.format(
        child=quote_table(first.schema, first.table),
        joins=" ".join(joins),
        not_null=_build_not_null_condition("r0", first.columns),
        user=", ".join(f"r0.{quote_ident(name)}" for name in first.columns),
    )
    return (await counter.fetch_row(sql)).get("max_rows")


async def count_orphans(
    counter: Counter, column: UnconstrainedColumn, table: Table, referenced_column: str
) -> OrphanCount:
    """Return how many rows of the column refer to a user, and how many of those users do not exist."""
    sql = _ORPHANS_SQL.format(
        child=quote_table(column.schema, column.table),
        parent=quote_table(table.schema, table.name),
        condition=build_join_condition("parent", [referenced_column], "child", [column.name]),
        not_null=_build_not_null_condition("child", [column.name]),
        value=f"child.{quote_ident(column.name)}",
    )
    return OrphanCount(**await counter.fetch_row(sql))


async def count_rows_of_deleted_users(counter: Counter, key: ForeignKey, deleted_at: Column) -> int | None:
    """Return how many rows belong to users that the column `deleted_at` marks as deleted."""
    marked = f"parent.{quote_ident(deleted_at.name)}"
    sql = _OF_DELETED_USERS_SQL.format(
        child=quote_table(key.schema, key.table),
        parent=quote_table(key.parent_schema, key.parent_table),
        condition=build_join_condition("parent", key.parent_columns, "child", key.columns),
        deleted=marked if deleted_at.base == "bool" else f"{marked} is not null",
    )
    return (await counter.fetch_row(sql)).get("n")


def build_join_condition(left: str, left_columns: Sequence[str], right: str, right_columns: Sequence[str]) -> str:
    """Return SQL that is true for the rows `left` and `right` whose columns are equal, one by one."""
    pairs = zip(left_columns, right_columns, strict=True)
    return " and ".join(f"{left}.{quote_ident(one)} = {right}.{quote_ident(other)}" for one, other in pairs)


def _build_not_null_condition(alias: str, columns: Sequence[str]) -> str:
    return " and ".join(f"{alias}.{quote_ident(name)} is not null" for name in columns)


_SIZE_SQL = """
select sum(pg_table_size(c.oid))::bigint as bytes from pg_class as c
where c.oid = $1::oid or c.oid in (select t.relid from pg_partition_tree($1::oid) as t)
"""

_ROWS_SQL = """
select count(*) as n from {child}
"""

_MAX_PER_USER_SQL = """
select coalesce(max(n), 0) as max_rows
from (select count(*) as n from {child} as r0 {joins} where {not_null} group by {user}) as per_user
"""

_ORPHANS_SQL = """
select
    count(*) as rows,
    count(*) filter (where not exists (select from {parent} as parent where {condition})) as orphans,
    count(*) filter (where {value}::text ~ '^user_[A-Za-z0-9]+$') as clerk_ids
from {child} as child
where {not_null}
"""

_OF_DELETED_USERS_SQL = """
select count(*) as n
from {child} as child join {parent} as parent on {condition}
where {deleted}
"""
