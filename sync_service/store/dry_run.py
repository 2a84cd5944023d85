"""The change that a replay would make to a row, shown without making it."""

from typing import Any

from sync_service.clerk.change import Deletion
from sync_service.clerk.events import Event
from sync_service.store.access import BoundConnection
from sync_service.store.changes import apply_changes, delete_rows, file_deletions
from sync_service.store.events import decode_json

Row = dict[str, Any] | None

# A dry run waits briefly for locks, and a cascade may take longer than in a webhook.
LOCK_TIMEOUT_MS = 1000
DELETE_TIMEOUT = 60


async def dry_run(bound: BoundConnection, lookup: str, event: Event) -> tuple[Row, Row]:
    """Return the row before and after a replay of `event`, which is rolled back; `lookup` reads the row.

    Raises the errors of asyncpg.
    """
    connection = bound.connection
    transaction = connection.transaction()
    await transaction.start()
    try:
        before = await connection.fetchval(lookup, event.clerk_id)
        if isinstance(event.change, Deletion):
            [record] = await file_deletions(bound, [event], source="replay", lock_timeout_ms=LOCK_TIMEOUT_MS)
            if record["state"] == "due":
                await delete_rows(bound, [event], lock_timeout_ms=LOCK_TIMEOUT_MS, timeout=DELETE_TIMEOUT)
        elif not event.error:
            await apply_changes(bound, [event], source="replay", lock_timeout_ms=LOCK_TIMEOUT_MS)
        after = await connection.fetchval(lookup, event.clerk_id)
    finally:
        await transaction.rollback()
    return _decode(before), _decode(after)


def _decode(row: str | None) -> Row:
    return decode_json(row) if row else None
