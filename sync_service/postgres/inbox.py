"""The statements that apply and file events: each once, each for many rows."""

from collections.abc import Sequence
from datetime import timedelta
from importlib.resources import files

import asyncpg
import msgspec

from sync_service.clerk.events import Event
from sync_service.clerk.values import Deletion, Snapshot
from sync_service.errors import DatabaseFault
from sync_service.mapping.table import Row
from sync_service.postgres.pool import Connection
from sync_service.postgres.statements import Statements

# The first pause before another attempt; each one after it is three times as long, up to an hour.
FIRST_PAUSE = timedelta(seconds=5)

DELETE_GRACE = "delete_grace"


async def apply_changes(
    connection: Connection,
    statements: Statements,
    events: Sequence[Event],
    *,
    source: str,
    patience_ms: int,
    row: Row | None = None,
) -> list[asyncpg.Record]:
    """Join, save and file; return `status` and `same_instant` of each, in their order. One statement.

    `row` stands in for the mapped row where there is one event. Rows of deleted users go by `delete_rows`.
    """
    await statements.held_against(connection)
    if not events:
        return []
    if len(events) == 1:
        values = _values(statements, events[0], row)
        return await connection.fetch(statements.apply_one, *values, source, str(patience_ms))
    columns = zip(*(_values(statements, event, row) for event in events), strict=True)
    return await connection.fetch(statements.apply, *map(list, columns), source, str(patience_ms))


async def refused_column(connection: Connection, statements: Statements, snapshot: Snapshot) -> str | None:
    """Return the first column whose type refuses what it would show of this snapshot, if one does."""
    row = msgspec.json.encode(statements.fitted(snapshot)).decode()
    for column in statements.fit.types:
        try:
            await connection.fetchval(statements.probe(column), row)
        except (asyncpg.DataError, asyncpg.CheckViolationError):
            return column
    return None


async def delete_rows(
    connection: Connection, statements: Statements, clerk_ids: Sequence[str], *, seconds: float
) -> None:
    """Do with the rows what the mapping says of deleted users, and forget what the inbox holds of these people.

    Only users with a tombstone are touched.
    """
    await statements.held_against(connection)
    await connection.execute(statements.delete, sorted(clerk_ids), timeout=seconds)


async def hold_back(connection: Connection, statements: Statements, event: Event, *, source: str) -> bool:
    """Leave the tombstone and the row, marked, until the mapping's `delete_grace` has passed; return whether it waits.

    An operator may take the deletion back meanwhile; a second word of it does not make it wait any longer.
    """
    grace = statements.mapping.delete_grace
    if not grace:
        return False
    await statements.held_against(connection)
    return bool(
        await connection.fetchval(
            statements.grace, event.clerk_id, event.id, event.type, event.instance_id, source, grace
        )
    )


async def take_back(connection: Connection, statements: Statements, clerk_id: str) -> bool:
    """Undo a deletion whose row is still there, for good; return whether there was one."""
    await statements.held_against(connection)
    return bool(await connection.fetchval(statements.restore, clerk_id))


async def park(
    connection: Connection,
    event: Event,
    fault: DatabaseFault,
    *,
    source: str,
    max_attempts: int,
    pause: timedelta = FIRST_PAUSE,
) -> str | None:
    """File an event that cannot be applied; return `failed` or `dead`, or None if it succeeded meanwhile."""
    kind = "deletion" if isinstance(event.change, Deletion) else "other"
    status: str | None = await connection.fetchval(
        _PARK,
        event.id,
        event.type,
        event.instance_id,
        event.clerk_id,
        kind,
        event.payload,
        fault.reason,
        fault.table,
        fault.column,
        source,
        max_attempts,
        pause,
        fault.constraint,
    )
    return status


_PARK = files(__package__).joinpath("park.sql").read_text(encoding="utf-8")


async def want_refetch(connection: Connection, clerk_ids: Sequence[str]) -> None:
    """Note that two contents of one instant were told of these users."""
    await connection.execute(
        "update clerk_sync.identities set refetch_wanted = true where clerk_id = any($1) and deleted_at is null",
        sorted(clerk_ids),
    )


async def pin_instance(pool: asyncpg.Pool, instance_id: str) -> str:
    """Return the Clerk instance whose events are taken: the one pinned, else from now on this one."""
    async with pool.acquire() as connection:
        pinned = await connection.fetchval(
            "insert into clerk_sync.instance (id) values ($1) on conflict (only_one) do nothing returning id",
            instance_id,
        )
        return str(pinned or await connection.fetchval("select id from clerk_sync.instance"))


def _values(statements: Statements, event: Event, row: Row | None) -> tuple[object, ...]:
    """Return `event` in the order of the parameters of changes_of_many.sql and changes_of_one.sql."""
    kind, version, tie, user_row, payload = "none", None, None, None, None
    match event.change:
        case Snapshot() as snapshot:
            of = statements.mapping.version(snapshot)
            kind, version, tie, payload = "snapshot", of.updated_at, of.tie, event.payload
            user_row = msgspec.json.encode(statements.fitted(snapshot) if row is None else row).decode()
        case Deletion():
            kind = "deletion"
    return event.id, event.type, event.instance_id, event.clerk_id, kind, version, tie, payload, user_row
