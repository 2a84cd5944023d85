"""Each statement of the usual work locks and reads the rows of its own Clerk IDs only, by index.

So processes on one database wait for each other only where two events concern one user, and the tables could be
distributed by Clerk ID.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import asyncpg
import pytest

from sync_service.errors import ChangeRejected
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table_binding import TableBinding
from sync_service.store.access import BoundConnection
from sync_service.store.changes import apply_changes, park_event
from sync_service.store.deletions import delete_rows, file_deletions
from sync_service.store.retry_queue import claim_due
from tests.test_apply import make_webhook
from tests.world import T2, T3

pytestmark = pytest.mark.every_postgres

USERS = 5_000

# The users of all statements.
KNOWN, NEW = "user_7", "user_new"

FILL = f"""
insert into users (id, email_verified, banned, locked, public_metadata)
select 'user_' || n, false, false, false, '{{}}' from generate_series(1, {USERS}) as n;
insert into clerk_sync.identities (clerk_id, version, tiebreak, created_by)
select 'user_' || n, 1, '', 'webhook' from generate_series(1, {USERS}) as n;
insert into clerk_sync.events (id, type, clerk_id, status, payload, next_attempt_at, finished_at)
select 'msg_' || n, 'user.updated', 'user_' || n, case when n = 7 then 'failed' else 'applied' end, '{{}}',
    case when n = 7 then now() end, case when n <> 7 then now() end
from generate_series(1, {USERS}) as n;
analyze users, clerk_sync.identities, clerk_sync.events;
set plan_cache_mode = force_generic_plan
"""

LOCKS = """
select coalesce(relation::regclass::text, locktype) as object, mode from pg_locks
where pid = pg_backend_pid() and locktype <> 'virtualxid' and relation is distinct from 'pg_locks'::regclass
"""
# Two tables of the service have one row, or a row for each migration.
SCANS = """
select relname from pg_stat_xact_user_tables where seq_scan > 0 and relname not in ('instance', 'migrations')
"""
FETCHED = """
select coalesce(sum(idx_tup_fetch), 0) from pg_stat_xact_user_tables
where relname in ('users', 'identities', 'events')
"""

# Rows that the statements for two users may read, of 15,000.
MAX_FETCHED = 30

# Modes that never conflict with each other, and the transaction's own ID.
SHARED_MODES = {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}

Statement = Callable[[BoundConnection], Awaitable[object]]


async def apply_one(bound: BoundConnection) -> None:
    await apply_changes(bound, [make_webhook("user.updated", KNOWN, T2)], source="webhook", lock_timeout_ms=100)


async def apply_many(bound: BoundConnection) -> None:
    events = [make_webhook("user.updated", KNOWN, T2), make_webhook("user.created", NEW)]
    await apply_changes(bound, events, source="webhook", lock_timeout_ms=100)


async def apply_again(bound: BoundConnection) -> None:
    event = make_webhook("user.updated", KNOWN, T2, "msg_7")
    await apply_changes(bound, [event], source="webhook", lock_timeout_ms=100)


async def file_deletion(bound: BoundConnection) -> None:
    await file_deletions(bound, [make_webhook("user.deleted", KNOWN)], source="webhook", lock_timeout_ms=100)


async def delete_row(bound: BoundConnection) -> None:
    event = make_webhook("user.deleted", KNOWN)
    await file_deletions(bound, [event], source="webhook", lock_timeout_ms=100)
    await delete_rows(bound, [event], lock_timeout_ms=100, timeout=10)


async def park(bound: BoundConnection) -> None:
    await park_event(
        bound.connection, make_webhook("user.updated", KNOWN, T3), ChangeRejected("check_violation"), max_attempts=10
    )


async def claim(bound: BoundConnection) -> None:
    assert [event.clerk_id for event in await claim_due(bound.connection, 10)] == [KNOWN]


async def resolve(bound: BoundConnection) -> None:
    assert len(await bound.connection.fetch(bound.queries.resolve_keys, [KNOWN, NEW])) == 2


async def read_row(bound: BoundConnection) -> None:
    assert await bound.connection.fetchval(TableBinding(bound.queries.bound.mapping).lookups.row, KNOWN)


async def read_state(bound: BoundConnection) -> None:
    assert await bound.connection.fetchrow(TableBinding(bound.queries.bound.mapping).lookups.user_state, KNOWN)


WRITES = [apply_one, apply_many, apply_again, file_deletion, delete_row, park, claim]
READS = [resolve, read_row, read_state]


async def check_locks(db: asyncpg.Connection, *, writes: bool) -> None:
    """Check the locks of the open transaction: none on more than rows, and an ID of its own if it writes.

    A transaction with an ID writes WAL, so the response waits for a synchronous standby, also that of a repeated event.
    """
    modes = {row["object"]: row["mode"] for row in await db.fetch(LOCKS)}
    assert ("transactionid" in modes) is writes
    modes.pop("transactionid", None)
    assert not modes.keys() & {"advisory", "tuple", "page", "extend"}
    assert set(modes.values()) <= SHARED_MODES


async def list_locked_users(other: asyncpg.Connection) -> set[str]:
    """Return the Clerk IDs of the rows that another transaction has locked."""
    locked: set[str] = set()
    for table, key in (("users", "id"), ("clerk_sync.identities", "clerk_id"), ("clerk_sync.events", "clerk_id")):
        free = await other.fetch(f"select {key} from {table} for update skip locked")
        locked |= {row[0] for row in await other.fetch(f"select {key} from {table}")} - {row[0] for row in free}
    return locked


@pytest.mark.parametrize("records_changes", [False, True], ids=["", "recording"])
async def test_hot_statements_lock_and_read_the_rows_of_their_own_users(
    db: asyncpg.Connection, database: str, records_changes: bool
) -> None:
    await db.execute(FILL)
    other = await asyncpg.connect(database)
    mapping = replace(DEFAULT, records_changes=records_changes)
    bound = BoundConnection(db, await TableBinding(mapping).ensure_bound(db))
    for statement in (*WRITES, *READS):
        transaction = db.transaction()
        await transaction.start()
        before = await db.fetchval(FETCHED)
        await statement(bound)
        print(statement.__name__)
        assert not await db.fetch(SCANS)
        assert await db.fetchval(FETCHED) - before <= MAX_FETCHED
        await check_locks(db, writes=statement in WRITES)
        assert await list_locked_users(other) == ({KNOWN} if statement in WRITES else set())
        await transaction.rollback()
    await other.close()
