"""Reads the first rows of the users table: counts, categories, samples of keys. No value of a person is returned."""

from collections.abc import Sequence

import msgspec

from sync_service.mapping.introspection import Column, Table, read_table
from sync_service.postgres.limited_read import begin_limited_read
from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import fill_gaps, quote_ident, quote_table, read_sql
from sync_service.suggest.clerk_ids import choose_clerk_id
from sync_service.suggest.evidence import Check, ColumnRows, Evidence, Trigger, find_framework, find_refusals, is_of_app
from sync_service.suggest.links import find_link
from sync_service.suggest.overview import ColumnOverview, Overview, TableOverview
from sync_service.suggest.row_facts import render_facts, render_sample
from sync_service.suggest.source_names import find_sources, is_address

# Tables whose keys are read where the users table has no row.
MAX_OTHER_TABLES = 20


async def read_evidence(connection: Connection, overview: Overview, schema: str, name: str) -> Evidence | None:
    """Return the facts about a table; None if it does not exist. Raises errors of asyncpg."""
    table = await read_table(connection, schema, name)
    if table is None:
        return None
    found = overview.find(schema, name)
    if found is None:  # a view, or a schema that belongs to another system
        return Evidence(table, None)
    clerk_id = choose_clerk_id(overview, found)
    async with begin_limited_read(connection):
        checks, triggers = await _read_details(connection, table)
        rows, columns = await _read_columns(connection, table, found)
        keys = await _read_all_keys(connection, table, found)
        other_keys = () if any(keys.values()) else await _read_other_keys(connection, overview)
    return Evidence(
        table=table,
        clerk_id=clerk_id.column if clerk_id else None,
        rows=rows,
        columns=columns,
        keys=keys,
        other_keys=other_keys,
        checks=checks,
        triggers=triggers,
        references=found.references,
        refusals=find_refusals(overview, found),
        framework=find_framework(overview, table),
        link=None if clerk_id else find_link(overview, found),
    )


async def _read_details(connection: Connection, table: Table) -> tuple[tuple[Check, ...], tuple[Trigger, ...]]:
    [row] = await connection.fetch(read_sql(__package__, "details.sql"), table.oid)
    checks = msgspec.json.decode(row["checks"], type=tuple[Check, ...])
    return checks, msgspec.json.decode(row["triggers"], type=tuple[Trigger, ...])


async def _read_all_keys(connection: Connection, table: Table, overview: TableOverview) -> dict[str, tuple[str, ...]]:
    if not overview.readable:
        return {}
    return {
        c.name: await _read_keys(connection, render_sample(table), c.name) for c in table.columns if _is_key(table, c)
    }


def _is_key(table: Table, column: Column) -> bool:
    """Return whether the format of the column's values is wanted: of a key, or of a code that each row needs."""
    if column.name in find_sources(table.columns) or is_address(column):  # a personal value
        return False
    is_wanted = column.name in table.primary_key or (column.not_null and table.is_unique_on(column.name))
    return is_wanted and not column.has_default and (column.category == "S" or column.base == "uuid")


async def _read_columns(
    connection: Connection, table: Table, overview: TableOverview
) -> tuple[int, dict[str, ColumnRows]]:
    """Return the number of rows in the sample, and the facts about each column in them."""
    if not overview.readable:
        return 0, {}
    references = frozenset(name for reference in overview.references for name in reference.columns)
    gaps = {
        "columns": ", ".join(quote_ident(column.name) for column in table.columns),
        "table": render_sample(table),
        "facts": ", ".join(render_facts(table, references)),
    }
    [row] = await connection.fetch(fill_gaps(read_sql(__package__, "read_rows.sql"), gaps))
    facts = [msgspec.json.decode(text, type=ColumnRows) for text in row[1:]]
    return row[0], {column.name: fact for column, fact in zip(table.columns, facts, strict=True)}


async def _read_keys(connection: Connection, source: str, column: str) -> tuple[str, ...]:
    gaps = {"column": quote_ident(column), "table": source}
    rows = await connection.fetch(fill_gaps(read_sql(__package__, "read_keys.sql"), gaps))
    return tuple(row["key"] for row in rows)


async def _read_other_keys(connection: Connection, overview: Overview) -> tuple[str, ...]:
    """Return keys of other tables that the app, and not the database, generates."""
    keys: list[str] = []
    for table, column in _list_other_keys(overview)[:MAX_OTHER_TABLES]:
        keys += await _read_keys(connection, quote_table(table.schema, table.name), column)
    return tuple(keys)


def _list_other_keys(overview: Overview) -> Sequence[tuple[TableOverview, str]]:
    """Return the text keys without a default that are no foreign keys and hold no IDs of Clerk."""
    return [
        (table, column.name)
        for table in overview.tables
        if is_of_app(table)
        for column in table.columns
        if column.primary and column.category == "S" and not column.has_default and _is_own_key(overview, table, column)
    ]


def _is_own_key(overview: Overview, table: TableOverview, column: ColumnOverview) -> bool:
    count = overview.count_ids(table, column)
    holds_ids = count is not None and (count.users or count.others)
    return not holds_ids and not any(column.name in reference.columns for reference in table.references)
