"""The rows of carry-overs in the tables of the app."""

from collections.abc import Mapping, Sequence

import asyncpg
import msgspec
from msgspec import Raw

from sync_service.errors import ChangeRejected, DatabaseError, MappingMismatch
from sync_service.mapping.carried_values import adapt_value, can_hold_value
from sync_service.mapping.carry_over import CarryOverTable
from sync_service.mapping.carry_over_checks import CarryOverTarget, UserKey, find_blocking_issues
from sync_service.mapping.carry_over_queries import build_removal_queries, render_insert, render_user_lock
from sync_service.mapping.introspection import Table, read_table
from sync_service.postgres.errors import is_raised_by_function, translate_error
from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import read_sql
from sync_service.store.access import BoundConnection
from sync_service.store.carry_overs import RefusedRow, RowKey
from sync_service.store.rows import ROW_NOT_WRITTEN

Row = Mapping[str, Raw]

# A trigger names a table, a schema or a database that does not exist; a type of an extension rejects a value. The table
# itself exists, because it was read before, and the record of the failure is the evidence that the database works.
_SQLSTATES_OF_APP = frozenset({"42P01", "3F000", "3D000", "XX000"})

# PostgreSQL's name of the error.
WRONG_TYPE = "datatype_mismatch"

NO_PRIMARY_KEY = "no_primary_key"
ROW_NOT_REMOVED = "row_not_removed"


class RowRefusedByTable(Exception):
    """The app's table refuses a row. `reason` is the class of the error."""

    def __init__(self, reason: str, refused: RefusedRow) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refused = refused


async def read_target(connection: Connection, entry: CarryOverTable, users: Table) -> CarryOverTarget | None:
    """Return the entry with its table and the foreign keys to the users table; None without such a table."""
    table = await read_table(connection, entry.schema, entry.table)
    if table is None:
        return None
    keys = await connection.fetch(_USER_FOREIGN_KEYS, table.oid, users.oid)
    return CarryOverTarget(entry, table, tuple(UserKey(*map(tuple, key)) for key in keys))


async def read_targets(bound: BoundConnection, entries: Sequence[CarryOverTable]) -> list[CarryOverTarget]:
    """Return the entries with their tables as they are now. Raises `MappingMismatch` if rows cannot be written."""
    users = bound.queries.bound
    targets: list[CarryOverTarget] = []
    errors: list[str] = []
    for entry in entries:
        target = await read_target(bound.connection, entry, users.table)
        if target is None:
            errors.append(f"{entry.table_name}: there is no such table; correct carry_over.{entry.name}.table")
            continue
        targets.append(target)
        errors += map(str, find_blocking_issues(target, users.mapping.id_column, users.table.column(users.key)))
    if errors:
        raise MappingMismatch(errors)
    return targets


async def lock_user(bound: BoundConnection, clerk_id: str) -> bool:
    """Keep the row of a user until the end of the transaction; return whether there is one."""
    return bool(await bound.connection.fetchval(render_user_lock(bound.queries.bound.mapping), clerk_id))


async def insert_rows(
    bound: BoundConnection, target: CarryOverTarget, clerk_id: str, rows: Sequence[Row]
) -> list[RowKey]:
    """Insert rows one by one, so that the refused one is known. Raises `RowRefusedByTable` or errors of asyncpg."""
    keys: list[RowKey] = []
    for number, row in enumerate(rows, start=1):
        place = RefusedRow(target.entry.table_name, number)
        content = msgspec.json.encode(_adapt_row(target.table, row, place)).decode()
        statement = render_insert(target.entry, target.table, bound.queries.bound, tuple(row))
        try:
            record = await bound.connection.fetchrow(statement, clerk_id, content)
        except asyncpg.PostgresError as error:
            raise_if_refused(error, place)
            raise
        if record is None:  # a trigger returned null
            raise RowRefusedByTable(ROW_NOT_WRITTEN, place)
        keys.append(RowKey(target.table.schema, target.table.name, Raw((record["key"] or "null").encode())))
    return keys


def _adapt_row(table: Table, row: Row, place: RefusedRow) -> Row:
    adapted: dict[str, Raw] = {}
    for name, value in row.items():
        column, text = table.column(name), bytes(value).decode()
        if column is None or not can_hold_value(column, text):
            raise RowRefusedByTable(WRONG_TYPE, msgspec.structs.replace(place, column=name))
        adapted[name] = Raw(adapt_value(column, text).encode())
    return adapted


async def check_deferred_constraints(connection: Connection) -> None:
    """Check the constraints that the commit would check. Raises `RowRefusedByTable` or errors of asyncpg."""
    try:
        await connection.execute("set constraints all immediate")
    except asyncpg.PostgresError as error:
        raise_if_refused(error, RefusedRow())
        raise


def raise_if_refused(error: asyncpg.PostgresError, place: RefusedRow) -> None:
    """Raise `RowRefusedByTable` unless the error may mean that the database is unavailable."""
    translated = translate_error(error)
    assert isinstance(translated, DatabaseError)  # noqa: S101  every error of the server is one
    is_of_app = is_raised_by_function(error) or translated.sqlstate in _SQLSTATES_OF_APP
    if not (is_of_app or isinstance(translated, ChangeRejected)):
        return
    refused = msgspec.structs.replace(
        place,
        table=f"{error.schema_name}.{error.table_name}" if error.table_name else place.table,
        column=translated.column,
        constraint=translated.constraint,
        function=translated.function,
    )
    raise RowRefusedByTable(translated.reason, refused) from None


async def remove_row(connection: Connection, table: Table | None, row: RowKey) -> bool:
    """Delete one row of the table; return False if it is gone already.

    Raises `RowRefusedByTable` or errors of asyncpg.
    """
    if table is None:
        return False
    place = RefusedRow(f"{row.schema}.{row.table}")
    key = msgspec.json.decode(row.key, type=dict[str, Raw] | None)
    if not key or any(table.column(name) is None for name in key):
        raise RowRefusedByTable(NO_PRIMARY_KEY, place)
    queries, text = build_removal_queries(table, tuple(key)), bytes(row.key).decode()
    try:
        tag = await connection.execute(queries.remove, text)
        await check_deferred_constraints(connection)
    except asyncpg.PostgresError as error:
        raise_if_refused(error, place)
        raise
    if tag == "DELETE 0" and await connection.fetchval(queries.exists, text):  # a trigger keeps it
        raise RowRefusedByTable(ROW_NOT_REMOVED, place)
    return bool(tag != "DELETE 0")


_USER_FOREIGN_KEYS = read_sql("sync_service.mapping", "user_foreign_keys.sql")
