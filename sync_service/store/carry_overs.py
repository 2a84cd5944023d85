"""The records of carry-overs: each visit's data is written once, and its rows can be removed again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeAlias

import msgspec
from msgspec import Raw, Struct

from sync_service.postgres.pool import Connection

Status: TypeAlias = Literal["pending", "completed", "failed", "rolled_back"]
STATUSES: tuple[Status, ...] = ("pending", "completed", "failed", "rolled_back")

# One user needs one carry-over or a few. A session token could otherwise fill the app's tables under new IDs.
MAX_PER_USER = 1000


class RefusedRow(Struct, frozen=True):
    """The row that the app's table refused: `row` counts from 1 in its table. No field has a value of the row."""

    table: str | None = None
    row: int | None = None
    column: str | None = None
    constraint: str | None = None
    function: str | None = None


class RowKey(Struct, frozen=True):
    """A row that was written. `key` has the columns of its primary key; it is null in a table without one."""

    schema: str
    table: str
    key: Raw


class CarryOverRecord(Struct, frozen=True):
    """One carry-over. It has no value of its rows beside their primary keys."""

    id: str
    clerk_id: str
    status: Status
    reason: str | None
    failure: RefusedRow | None
    keys: tuple[RowKey, ...]
    created_at: datetime
    finished_at: datetime | None
    rolled_back_at: datetime | None


class CarryOverSummary(Struct, frozen=True):
    """One carry-over in a list. `rows` is the number of rows that were written."""

    id: str
    clerk_id: str
    status: Status
    reason: str | None
    rows: int
    created_at: datetime


async def claim_carry_over(connection: Connection, carry_over_id: str, clerk_id: str) -> bool:
    """Insert the record of a new carry-over; return False if there is one, or if the user has too many.

    Waits for the end of another transaction with the same ID.
    """
    return bool(await connection.fetchval(_CLAIM, carry_over_id, clerk_id, MAX_PER_USER))


async def complete_carry_over(connection: Connection, carry_over_id: str, keys: Sequence[RowKey]) -> None:
    """Record the rows that were written, in the transaction that writes them."""
    await connection.execute(_COMPLETE, carry_over_id, msgspec.json.encode(keys).decode())


async def fail_carry_over(connection: Connection, carry_over_id: str, reason: str, failure: RefusedRow) -> None:
    """Record that no row was written."""
    await connection.execute(_FAIL, carry_over_id, reason, msgspec.json.encode(failure).decode())


async def get_carry_over(connection: Connection, carry_over_id: str, *, lock: bool = False) -> CarryOverRecord | None:
    """Return one carry-over or None; with `lock`, no other transaction changes it before the end of this one."""
    row = await connection.fetchrow(_GET + (" for update" if lock else ""), carry_over_id)
    if row is None:
        return None
    failure = row["failure"] and msgspec.json.decode(row["failure"], type=RefusedRow)
    keys = msgspec.json.decode(row["keys"], type=tuple[RowKey, ...])
    return CarryOverRecord(**dict(row) | {"failure": failure, "keys": keys})


async def list_carry_overs(
    connection: Connection, status: Status | None, clerk_id: str | None, limit: int
) -> list[CarryOverSummary]:
    """Return carry-overs, the newest first."""
    return [CarryOverSummary(*row) for row in await connection.fetch(_LIST, status, clerk_id, limit)]


async def mark_rolled_back(connection: Connection, carry_over_id: str) -> None:
    """Record that the rows were removed, in the transaction that removes them."""
    await connection.execute(_ROLL_BACK, carry_over_id)


_CLAIM = """
insert into clerk_sync.carry_overs (id, clerk_id, status)
select $1, $2, 'pending'
where (select count(*) from (select from clerk_sync.carry_overs where clerk_id = $2 limit $3) as known) < $3
on conflict (id) do nothing
returning true
"""

_COMPLETE = """
update clerk_sync.carry_overs set status = 'completed', keys = $2, finished_at = now() where id = $1
"""

_FAIL = """
update clerk_sync.carry_overs set status = 'failed', reason = $2, failure = $3, finished_at = now() where id = $1
"""

_GET = """
select id, clerk_id, status, reason, failure, keys, created_at, finished_at, rolled_back_at
from clerk_sync.carry_overs
where id = $1
"""

_LIST = """
select id, clerk_id, status, reason, jsonb_array_length(keys), created_at
from clerk_sync.carry_overs
where status = coalesce($1, status) and clerk_id = coalesce($2, clerk_id)
order by created_at desc, id desc
limit $3
"""

_ROLL_BACK = """
update clerk_sync.carry_overs set status = 'rolled_back', rolled_back_at = now() where id = $1
"""
