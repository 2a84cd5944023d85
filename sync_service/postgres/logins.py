"""What a login looks at: one user, many users' keys, and who asks Clerk about whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from sync_service.postgres.faults import translated
from sync_service.postgres.pool import Connection
from sync_service.postgres.statements import Statements

# Whoever asks Clerk gives up sooner than this; if it has crashed, somebody else asks after it.
LEASE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of one user. `row` is the app's, as JSON text; `age` is in seconds since Clerk confirmed it."""

    row: str | None
    deleted: bool
    known: bool
    confirmed_at: datetime | None
    age: float | None
    instance_id: str | None


async def look(pool: asyncpg.Pool, statements: Statements, clerk_id: str) -> Found:
    """Return what is known of a user, by one statement. Raises `DatabaseFault`."""
    with translated():
        record = await pool.fetchrow(statements.look, clerk_id)
    assert record is not None  # noqa: S101  there is always one
    return Found(*record)


async def resolve(pool: asyncpg.Pool, statements: Statements, clerk_ids: Sequence[str]) -> list[asyncpg.Record]:
    """Return `clerk_id`, `key` (JSON text, None without a row) and `deleted` of each. Raises `DatabaseFault`."""
    with translated():
        async with pool.acquire() as connection:
            await statements.held_against(connection)
            return await connection.fetch(statements.resolve, clerk_ids)


async def row_lost(connection: Connection, statements: Statements, clerk_id: str) -> None:
    """Let the next snapshot be saved again if the user's row is gone though the user is not deleted."""
    await connection.execute(statements.row_lost, clerk_id)


async def confirm(connection: Connection, clerk_id: str, updated_at: int) -> None:
    """Note that Clerk was asked and said nothing newer than what is there."""
    await connection.execute(_CONFIRM, clerk_id, updated_at)


async def take_lease(connection: Connection, clerk_id: str) -> datetime | None:
    """Return until when nobody else asks Clerk about the user, or None while somebody does."""
    until: datetime | None = await connection.fetchval(_TAKE, clerk_id, LEASE)
    return until


async def give_up_lease(connection: Connection, clerk_id: str, until: datetime) -> None:
    """Let others ask about the user again; a lease that is somebody else's by now stays."""
    await connection.execute("delete from clerk_sync.fetches where clerk_id = $1 and until = $2", clerk_id, until)


_CONFIRM = """
update clerk_sync.identities
set confirmed_at = now(), refetch_wanted = false
where clerk_id = $1 and version = $2 and deleted_at is null
"""

_TAKE = """
insert into clerk_sync.fetches as lease (clerk_id, until) values ($1, now() + $2)
on conflict (clerk_id) do update set until = excluded.until where lease.until < now()
returning until
"""
