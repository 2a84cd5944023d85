"""Rolls a carry-over back: exactly the rows that it wrote are removed again, in one transaction with the audit."""

from dataclasses import dataclass

from sync_service.mapping.introspection import Table, read_table
from sync_service.postgres.pool import Connection
from sync_service.store.audit import AuditEntry, add_entry
from sync_service.store.carried_rows import remove_row
from sync_service.store.carry_overs import Status, get_carry_over, mark_rolled_back

ROLL_BACK = "roll_back_carry_over"


@dataclass(frozen=True, slots=True)
class Removal:
    """The status of the carry-over before, the rows that were removed, and those that were gone already."""

    status: Status
    removed: int = 0
    gone: int = 0


async def roll_back_carry_over(connection: Connection, carry_over_id: str, who: str) -> Removal | None:
    """Remove the rows of a completed carry-over; return None for an unknown ID. `who` is for the audit.

    Raises `RowRefusedByTable` or errors of asyncpg; then every row stays.
    """
    async with connection.transaction():
        record = await get_carry_over(connection, carry_over_id, lock=True)
        if record is None:
            return None
        if record.status != "completed":
            return Removal(record.status)
        tables: dict[tuple[str, str], Table | None] = {}
        removed = 0
        for row in reversed(record.keys):  # a row may refer to an earlier one
            name = (row.schema, row.table)
            if name not in tables:
                tables[name] = await read_table(connection, *name)
            removed += await remove_row(connection, tables[name], row)
        await mark_rolled_back(connection, carry_over_id)
        await add_entry(connection, AuditEntry(who, ROLL_BACK, carry_over_id))
        return Removal(record.status, removed, len(record.keys) - removed)
