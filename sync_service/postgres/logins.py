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
    address_wanted: bool
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


async def save_again(connection: Connection, statements: Statements, clerk_id: str, updated_at: int) -> None:
    """Let a snapshot as of then be saved though it is known, if the row is gone or lacks its address."""
    await connection.execute(statements.save_again, clerk_id, updated_at)


async def confirm(connection: Connection, clerk_id: str, updated_at: int) -> None:
    """Note that Clerk was asked and said nothing newer than what is there."""
    await connection.execute(_CONFIRM, clerk_id, updated_at)


async def to_ask_about(connection: Connection, limit: int) -> list[str]:
    """Return users of whom only Clerk knows what is right.

    Two things were told of one instant; or a row wants its address, and the inbox does not have it (any more).
    """
    return [row["clerk_id"] for row in await connection.fetch(_TO_ASK_ABOUT, limit)]


async def asked_about(connection: Connection, clerk_id: str) -> None:
    """Note that Clerk was asked: what it said stands, or what is here is newer."""
    await connection.execute(
        "update clerk_sync.identities set refetch_wanted = false, confirmed_at = now()"
        " where clerk_id = $1 and deleted_at is null",
        clerk_id,
    )


async def forget_leases(connection: Connection) -> None:
    """Remove leases of those who did not live to give them up."""
    await connection.execute("delete from clerk_sync.fetches where until < now() - interval '1 hour'")


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

_TO_ASK_ABOUT = """
(select clerk_id from clerk_sync.identities where refetch_wanted and deleted_at is null limit $1)
union
(
    select clerk_id from clerk_sync.identities as wanting
    where address_wanted and (confirmed_at is null or confirmed_at < now() - interval '10 minutes')
        and not exists (
            select from clerk_sync.events as e
            where e.clerk_id = wanting.clerk_id and e.payload is not null and e.type <> 'user.deleted'
                and (e.payload ->> 'updated_at')::numeric::bigint = wanting.version
        )
    limit $1
)
limit $1
"""

_TAKE = """
insert into clerk_sync.fetches as lease (clerk_id, until) values ($1, now() + $2)
on conflict (clerk_id) do update set until = excluded.until where lease.until < now()
returning until
"""
