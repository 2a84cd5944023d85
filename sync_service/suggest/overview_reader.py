"""Reads the app's tables from the catalogue, and counts the IDs of Clerk in their first rows."""

from collections.abc import Sequence

import msgspec

from sync_service.postgres.limited_read import begin_limited_read
from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import fill_gaps, quote_ident, quote_literal, quote_table, read_sql
from sync_service.suggest.overview import ColumnOverview, IdCount, IdCounts, Overview, TableOverview

# Tables whose IDs one statement counts. A statement for each table would wait for the network each time.
MAX_TABLES = 50

_USER = "^user_[A-Za-z0-9]+$"
_OTHER = "^(org|orgmem|orginv|sess|inv|cplan|csub|client)_[A-Za-z0-9]+$"


async def read_overview(connection: Connection) -> Overview:
    """Return the tables of the app. Raises errors of asyncpg."""
    async with begin_limited_read(connection):
        rows = await connection.fetch(read_sql(__package__, "overview.sql"))
        tables = [_convert(dict(row)) for row in rows]
        readable = [table for table in tables if table.readable and _list_columns(table)]
        ids: IdCounts = {}
        for start in range(0, len(readable), MAX_TABLES):
            ids |= await _count_ids(connection, readable[start : start + MAX_TABLES])
        return Overview(tables, ids)


def _convert(row: dict[str, object]) -> TableOverview:
    parsed = {key: msgspec.json.decode(row[key]) for key in ("columns", "references")}  # type: ignore[call-overload]
    return msgspec.convert(row | parsed, TableOverview)


def _list_columns(table: TableOverview) -> list[ColumnOverview]:
    return [column for column in table.columns if column.can_hold_id]


async def _count_ids(connection: Connection, tables: Sequence[TableOverview]) -> IdCounts:
    """Count the IDs in the columns that can hold one. No value leaves the database."""
    statements = [_render_counts(number, table) for number, table in enumerate(tables)]
    ids: IdCounts = {}
    for row in await connection.fetch("\nunion all\n".join(statements)):
        table = tables[row["number"]]
        counts = (IdCount(*count) for count in row["counts"])
        ids[table.id] = {column.name: count for column, count in zip(_list_columns(table), counts, strict=True)}
    return ids


def _render_counts(number: int, table: TableOverview) -> str:
    names = [quote_ident(column.name) for column in _list_columns(table)]
    gaps = {
        "number": str(number),
        "counts": ", ".join(map(_render_count, names)),
        "columns": ", ".join(names),
        "table": quote_table(table.schema, table.name),
    }
    return fill_gaps(read_sql(__package__, "count_ids.sql"), gaps)


def _render_count(name: str) -> str:
    users, others = (f"count(*) filter (where {name}::text ~ {quote_literal(pattern)})" for pattern in (_USER, _OTHER))
    return f"array[count({name}), count(distinct {name}::text), {users}, {others}]"
