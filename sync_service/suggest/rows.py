"""Reads the first rows of the users table: counts, categories, samples of keys. No value of a person is returned."""

from collections.abc import Sequence

import msgspec

from sync_service.mapping.coercion import JSON_TYPES, TIME_TYPES
from sync_service.mapping.introspection import Column, Table, read_table
from sync_service.postgres.limited_read import begin_limited_read
from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import fill_gaps, quote_ident, quote_table, read_sql
from sync_service.suggest.clerk_ids import choose_clerk_id
from sync_service.suggest.evidence import Check, ColumnRows, Evidence, Trigger, find_framework, find_refusals, is_of_app
from sync_service.suggest.links import find_link
from sync_service.suggest.names import CATEGORIES, has_word
from sync_service.suggest.overview import ColumnOverview, Overview, TableOverview
from sync_service.suggest.sources import find_source
from sync_service.suggest.times import is_creation_name

MAX_LABELS = 20
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
    return {c.name: await _read_keys(connection, table, c.name) for c in table.columns if _is_key(table, c)}


def _is_key(table: Table, column: Column) -> bool:
    """Return whether the format of the column's values is wanted: of a key, or of a code that each row needs."""
    if find_source(column):  # such as a unique email, which is a personal value
        return False
    is_wanted = column.name in table.primary_key or (column.not_null and table.is_unique_on(column.name))
    return is_wanted and not column.has_default and (column.category == "S" or column.base == "uuid")


async def _read_columns(
    connection: Connection, table: Table, overview: TableOverview
) -> tuple[int, dict[str, ColumnRows]]:
    """Return the number of rows that were read, at most a thousand, and the facts about each column in them."""
    if not overview.readable:
        return 0, {}
    references = frozenset(name for reference in overview.references for name in reference.columns)
    created = _find_creation(table)
    gaps = {
        "columns": ", ".join(quote_ident(column.name) for column in table.columns),
        "table": quote_table(table.schema, table.name),
        "facts": ", ".join(_render_facts(column, references, created) for column in table.columns),
    }
    [row] = await connection.fetch(fill_gaps(read_sql(__package__, "read_rows.sql"), gaps))
    facts = [msgspec.json.decode(text, type=ColumnRows) for text in row[1:]]
    return row[0], {column.name: fact for column, fact in zip(table.columns, facts, strict=True)}


def _find_creation(table: Table) -> str | None:
    """Return the column with the time of the row's creation."""
    return next((c.name for c in table.columns if is_creation_name(c.name) and c.base in TIME_TYPES), None)


def _render_facts(column: Column, references: frozenset[str], created: str | None) -> str:
    name = quote_ident(column.name)
    later, labels = "0", "json_build_object()"
    if created and created != column.name and column.base in TIME_TYPES:
        later = f"count(*) filter (where {name} > {quote_ident(created)} + interval '1 second')"
    if label := _render_label(column, references):
        counts = f"{label} as label, count(*) as n from sample where {name} is not null group by 1 order by 2 desc"
        frequent = f"(select {counts} limit {MAX_LABELS}) as frequent"
        labels = f"coalesce((select json_object_agg(label, n) from {frequent}), '{{}}')"  # noqa: S608  quoted names
    return f"json_build_object('values', count({name}), 'later', {later}, 'labels', {labels})"


def _render_label(column: Column, references: frozenset[str]) -> str | None:
    """Return the SQL of the category of a value; None for a column whose values may be personal."""
    name = quote_ident(column.name)
    if column.base in JSON_TYPES:
        return f"json_typeof({name}::json)"
    is_category = column.category in {"B", "E"} or column.name in references
    if is_category or (column.category in {"S", "N"} and has_word(column.name, CATEGORIES)):
        return f"{name}::text"
    return None


async def _read_keys(connection: Connection, table: Table | TableOverview, column: str) -> tuple[str, ...]:
    gaps = {"column": quote_ident(column), "table": quote_table(table.schema, table.name)}
    rows = await connection.fetch(fill_gaps(read_sql(__package__, "read_keys.sql"), gaps))
    return tuple(row["key"] for row in rows)


async def _read_other_keys(connection: Connection, overview: Overview) -> tuple[str, ...]:
    """Return keys of other tables that the app, and not the database, generates."""
    keys: list[str] = []
    for table, column in _list_other_keys(overview)[:MAX_OTHER_TABLES]:
        keys += await _read_keys(connection, table, column)
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
