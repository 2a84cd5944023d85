"""The change feed: the recorded changes in an order that never hides one from a reader.

A sequence gives numbers before the commit, so a reader who has seen number 7 could miss number 6. The order is thus a
transaction's ID, then the number. The ID is that of the writer, or of the newest transaction that had ended when the
entry was written, if that is greater. So it only increases, also if transactions wait for each other.

A page ends before the oldest open transaction that may write entries: it has PostgreSQL's lock for writers on the
table. Other transactions do not matter, such as a long one of the app, or one in another database of the server. If
there is none, the page ends with the last entry at the newest ended transaction before the look at the locks. A later
writer has no smaller ID, and a greater number.
"""

import re
from datetime import datetime, timedelta
from typing import NamedTuple

import asyncpg

from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import read_sql

MAX_INTEGER = 2**63 - 1

# Consumers that were away for longer read the table itself.
RETENTION = timedelta(days=30)


class FeedPosition(NamedTuple):
    """The place of an entry. The text is its ID, and its cursor."""

    transaction_id: int
    number: int

    def __str__(self) -> str:
        return f"{self.transaction_id}-{self.number}"


START = FeedPosition(0, 0)
END = FeedPosition(MAX_INTEGER, MAX_INTEGER)


def parse_position(text: str) -> FeedPosition:
    """Return the position of a cursor. Raises `ValueError`."""
    match = re.fullmatch(r"([0-9]{1,19})-([0-9]{1,19})", text)
    if not match:
        raise ValueError("this is not a cursor")
    position = FeedPosition(int(match[1]), int(match[2]))
    if max(position) > MAX_INTEGER:
        raise ValueError("this is not a cursor")
    return position


class FeedEntry(NamedTuple):
    """One change. `key` is JSON text, None without a row."""

    position: FeedPosition
    type: str
    clerk_id: str
    key: str | None
    columns: list[str]
    at: datetime


async def read_entries(connection: Connection, after: FeedPosition, limit: int) -> list[FeedEntry]:
    """Return the entries after a position, the oldest first."""
    [end] = await connection.fetch(_READ_END)
    # A second statement: its snapshot has the entries of all transactions that had ended before the look at the locks.
    return await _read_between(connection, after, FeedPosition(int(end["transaction_id"]), end["number"]), limit)


async def has_entries(connection: Connection, after: FeedPosition) -> bool:
    """Return whether there are committed entries, which may wait for an older writer. It costs less than a page."""
    return bool(await _read_between(connection, after, END, 1))


async def _read_between(connection: Connection, after: FeedPosition, end: FeedPosition, limit: int) -> list[FeedEntry]:
    rows = await connection.fetch(
        _READ, str(after.transaction_id), after.number, limit, str(end.transaction_id), end.number
    )
    return [make_entry(row) for row in rows]


def make_entry(row: asyncpg.Record) -> FeedEntry:
    """Return the entry of a row of `clerk_sync.changes`."""
    position = FeedPosition(int(row["transaction_id"]), row["id"])
    return FeedEntry(position, row["type"], row["clerk_id"], row["app_key"], row["columns"], row["at"])


async def adopt_restored_entries(connection: Connection) -> None:
    """Put entries of another server, which a restore has brought, before those of this one."""
    await connection.execute(_ADOPT)


async def prune_entries(connection: Connection, limit: int) -> int:
    """Remove entries older than `RETENTION`; return their number."""
    tag = await connection.execute(_PRUNE, limit, RETENTION)
    return int(tag.rpartition(" ")[2])


_READ_END = read_sql(__package__, "read_feed_end.sql")

# The order names the table's column. Without its name it would be that of the text in the result.
_READ = """
select entry.transaction_id::text, id, type, clerk_id, app_key::text, columns, at
from clerk_sync.changes as entry
where
    -- A cursor from before a restore into another server has an ID that this server has not reached.
    (transaction_id, id) > (
        case when $1::text::xid8 < pg_snapshot_xmax(pg_current_snapshot()) then $1::text::xid8 else '0'::xid8 end,
        $2::bigint
    )
    and (transaction_id, id) <= ($4::text::xid8, $5::bigint)
order by entry.transaction_id, id
limit $3
"""

_ADOPT = """
update clerk_sync.changes set transaction_id = '0' where transaction_id >= pg_snapshot_xmax(pg_current_snapshot())
"""

# The limit ends the scan at the first entries, which are the oldest. They are not locked, because a lock writes, too.
_PRUNE = """
delete from clerk_sync.changes
where ctid = any(array(
    select oldest.ctid
    from (select ctid, at from clerk_sync.changes order by transaction_id, id limit $1) as oldest
    where oldest.at < now() - $2::interval
))
"""
