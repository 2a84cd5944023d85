"""Writes the data that a visitor entered before sign-up: once, in one transaction with its record.

The ID of the visit is the idempotency key. A repeat waits for the transaction of the first call and gets its result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import structlog

from sync_service.errors import DatabaseError, MappingMismatch
from sync_service.mapping.carry_over import CarryOverTable
from sync_service.mapping.carry_over_checks import CarryOverTarget
from sync_service.request_errors import DeletedUser, UnknownUser
from sync_service.store.access import BoundConnection, Store
from sync_service.store.carried_rows import (
    Row,
    RowRefusedByTable,
    check_deferred_constraints,
    insert_rows,
    lock_user,
    read_targets,
)
from sync_service.store.carry_overs import (
    CarryOverRecord,
    RefusedRow,
    RowKey,
    claim_carry_over,
    complete_carry_over,
    fail_carry_over,
    get_carry_over,
)
from sync_service.store.identities import get_user_state
from sync_service.sync.recovery import MAX_TRIES

log = structlog.get_logger()

# Deadlocks and serialization failures.
_TRANSIENT_SQLSTATES = ("40",)

OTHER_USER = "id_of_another_user"
TOO_MANY = "too_many_carry_overs"
ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class CarryOver:
    """The data of one visit: the rows of each table, in the order of `sync.toml`."""

    id: str
    rows: tuple[tuple[CarryOverTable, Sequence[Row]], ...]


@dataclass(frozen=True, slots=True)
class CarryOverResult:
    """The result as the caller sees it; for operators the refused row.

    `user_row` is the user's row as JSON text if this call has written rows: a trigger of the app may have changed it.
    """

    status: Literal["completed", "failed"]
    reason: str | None = None
    refused: RefusedRow | None = None
    user_row: str | None = None


class CarryOverService:
    """Writes carry-overs for users whose row exists. `tables` are those that may take rows."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.tables = store.mapping.carry_over

    async def write(self, clerk_id: str, carry_over: CarryOver) -> CarryOverResult:
        """Write the rows unless the ID is known; then return the result of its first call.

        Raises `DeletedUser`, `UnknownUser` or `DatabaseError`; then neither a row nor a record is written.
        """
        result = await self._try_to_write(clerk_id, carry_over)
        refused = msgspec.structs.asdict(result.refused) if result.refused else {}
        log.info("carry_over", status=result.status, reason=result.reason, **refused)
        return result

    async def _try_to_write(self, clerk_id: str, carry_over: CarryOver) -> CarryOverResult:
        tries = MAX_TRIES
        while True:
            tries -= 1
            try:
                return await self._write(clerk_id, carry_over)
            except MappingMismatch as error:
                log.error("carry_over_mismatch", errors=error.errors)  # noqa: TRY400  the errors say all
                raise
            except DatabaseError as error:
                if not tries or not error.sqlstate.startswith(_TRANSIENT_SQLSTATES):
                    raise

    async def _write(self, clerk_id: str, carry_over: CarryOver) -> CarryOverResult:
        async with self._store.acquire() as bound:
            targets = await read_targets(bound, [entry for entry, _ in carry_over.rows])
            # A role may have another default, under which a repeat could not see the first call.
            async with bound.connection.transaction(isolation="read_committed"):
                if await claim_carry_over(bound.connection, carry_over.id, clerk_id):
                    return await self._write_rows(bound, clerk_id, carry_over, targets)
                return repeat_result(await get_carry_over(bound.connection, carry_over.id), clerk_id)

    async def _write_rows(
        self, bound: BoundConnection, clerk_id: str, carry_over: CarryOver, targets: Sequence[CarryOverTarget]
    ) -> CarryOverResult:
        connection = bound.connection
        await self._ensure_user(bound, clerk_id)
        try:
            async with connection.transaction():
                keys: list[RowKey] = []
                for target, (_, rows) in zip(targets, carry_over.rows, strict=True):
                    keys += await insert_rows(bound, target, clerk_id, rows)
                await check_deferred_constraints(connection)
        except RowRefusedByTable as error:
            await fail_carry_over(connection, carry_over.id, error.reason, error.refused)
            return CarryOverResult("failed", error.reason, error.refused)
        await complete_carry_over(connection, carry_over.id, keys)
        state = await get_user_state(connection, self._store.binding.lookups, clerk_id)
        return CarryOverResult("completed", user_row=state.row)

    async def _ensure_user(self, bound: BoundConnection, clerk_id: str) -> None:
        """Raise `DeletedUser` or `UnknownUser`, unless the row exists until the end of the transaction.

        A deletion commits its tombstone first. If it is not here yet, the deletion waits for the lock, and then deletes
        the rows of this carry-over by the foreign keys of the app.
        """
        has_row = await lock_user(bound, clerk_id)
        state = await get_user_state(bound.connection, self._store.binding.lookups, clerk_id)
        if state.is_deleted:
            raise DeletedUser("This user is deleted.")
        if not has_row:
            raise UnknownUser("This user has no row.")


def repeat_result(record: CarryOverRecord | None, clerk_id: str) -> CarryOverResult:
    """Return the result for an ID that is known. It tells another user only that the ID is taken."""
    if record is None:
        return CarryOverResult("failed", TOO_MANY)
    if record.clerk_id != clerk_id:
        return CarryOverResult("failed", OTHER_USER)
    if record.status == "completed":
        return CarryOverResult("completed")
    return CarryOverResult("failed", ROLLED_BACK if record.status == "rolled_back" else record.reason)
