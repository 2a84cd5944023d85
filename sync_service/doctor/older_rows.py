"""Counts rows that are older than the bookkeeping, as after a restore of the users table alone."""

import asyncpg

from sync_service.clerk.change import Snapshot
from sync_service.doctor.counts import Counter
from sync_service.mapping.binding import BoundMapping, bind
from sync_service.mapping.introspection import Table
from sync_service.mapping.queries import build_queries
from sync_service.mapping.table import TableMapping
from sync_service.postgres.sql import quote_ident, quote_table
from sync_service.store.access import BoundConnection
from sync_service.store.comparison import Drift, compare_rows
from sync_service.store.events import list_newest_states

# The newest events, whose users a restore has most likely changed.
MAX_EVENTS = 500

# PostgreSQL's time of a version in milliseconds, for each type of a column with it.
_VERSION = {
    "timestamptz": "to_timestamp(known.version / 1000.0)",
    "timestamp": "to_timestamp(known.version / 1000.0) at time zone 'UTC'",
}


async def count_older_rows(counter: Counter, mapping: TableMapping, table: Table) -> int | None:
    """Return the number of rows with an older content than `clerk_sync.identities` has; None if not counted.

    A column with Clerk's time of the last change tells it for all rows. Without one, the rows of the newest events are
    compared with their payloads. Raises errors of asyncpg.
    """
    for name, field in mapping.columns.items():
        column = table.column(name)
        if field.only_source == "updated_at" and not field.insert_only and column and column.base in _VERSION:
            sql = _OLDER_ROWS_SQL.format(
                table=quote_table(table.schema, table.name),
                clerk_id=quote_ident(mapping.id_column),
                updated_at=quote_ident(name),
                version=_VERSION[column.base],
            )
            return (await counter.fetch_row(sql)).get("older_rows")
    bound = bind(mapping, table)
    if not isinstance(bound, BoundMapping):
        return None
    queries = build_queries(mapping, bound)
    try:
        return await counter.read(lambda connection: _compare_newest(BoundConnection(connection, queries)))
    except asyncpg.DataError:  # a column that refuses some users, which another check reports
        return None


async def _compare_newest(bound: BoundConnection) -> int:
    events = await list_newest_states(bound.connection, MAX_EVENTS)
    snapshots = [event.change for event in events if isinstance(event.change, Snapshot)]
    return sum(difference.drift is Drift.DIFFERING for difference in await compare_rows(bound, snapshots))


# A column may keep less than milliseconds.
_OLDER_ROWS_SQL = """
select count(*) as older_rows
from clerk_sync.identities as known
join {table} as app on app.{clerk_id}::text = known.clerk_id
where known.deleted_at is null and app.{updated_at} < {version} - interval '1 second'
"""
