"""The identities of users: state for a login, keys of many users, leases and marks for requests to Clerk."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from sync_service.mapping.queries import LookupQueries
from sync_service.postgres.pool import Connection
from sync_service.store.access import BoundConnection

# Longer than a request to Clerk may take. After a crash another process asks.
LEASE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class UserState:
    """The state of one user. `row` is the application's, as JSON text; `age` is in seconds since Clerk confirmed it."""

    row: str | None
    is_deleted: bool
    is_known: bool
    email_pending: bool
    confirmed_at: datetime | None
    age: float | None
    instance_id: str | None


async def get_user_state(connection: Connection, lookups: LookupQueries, clerk_id: str) -> UserState:
    """Return the state of a user, by one statement."""
    record = await connection.fetchrow(lookups.user_state, clerk_id)
    assert record is not None  # noqa: S101  the statement always returns one row
    return UserState(*record)


async def resolve_keys(bound: BoundConnection, clerk_ids: Sequence[str]) -> list[asyncpg.Record]:
    """Return `clerk_id`, `key` (JSON text, None without a row) and `deleted` of each user."""
    return await bound.connection.fetch(bound.queries.resolve_keys, clerk_ids)


async def pin_instance(connection: Connection, instance_id: str) -> str:
    """Return the pinned Clerk instance; the first call pins `instance_id`."""
    pinned = await connection.fetchval(
        "insert into clerk_sync.instance (id) values ($1) on conflict (only_one) do nothing returning id", instance_id
    )
    return str(pinned or await connection.fetchval("select id from clerk_sync.instance"))


async def get_pinned_instance(connection: Connection) -> str | None:
    """Return the pinned Clerk instance, None before the first event."""
    pinned: str | None = await connection.fetchval("select id from clerk_sync.instance")
    return pinned


async def confirm_version(connection: Connection, clerk_id: str, updated_at: int) -> None:
    """Record that Clerk was asked and has no newer version."""
    await connection.execute(
        "update clerk_sync.identities set confirmed_at = now(), refetch_pending = false"
        " where clerk_id = $1 and version = $2 and deleted_at is null",
        clerk_id,
        updated_at,
    )


async def request_refetch(connection: Connection, clerk_ids: Sequence[str]) -> None:
    """Record that two contents of one millisecond exist for these users, so that Clerk must be asked."""
    await connection.execute(
        "update clerk_sync.identities set refetch_pending = true where clerk_id = any($1) and deleted_at is null",
        sorted(clerk_ids),
    )


async def users_to_refetch(connection: Connection, limit: int, after: str = "") -> list[str]:
    """Return users whose right state only Clerk has, sorted by Clerk ID; `after` is the last one of the page before.

    Two contents of one millisecond exist, or a row lacks its email and the inbox has no payload with it.
    """
    return [row["clerk_id"] for row in await connection.fetch(_TO_REFETCH, limit, after)]


async def clear_refetch(connection: Connection, clerk_id: str) -> None:
    """Record that Clerk was asked about the user."""
    await connection.execute(
        "update clerk_sync.identities set refetch_pending = false, confirmed_at = now()"
        " where clerk_id = $1 and deleted_at is null",
        clerk_id,
    )


async def acquire_lease(connection: Connection, clerk_id: str) -> datetime | None:
    """Return the end of a lease for a request to Clerk about the user, or None while another process has it."""
    expires_at: datetime | None = await connection.fetchval(_ACQUIRE_LEASE, clerk_id, LEASE)
    return expires_at


async def release_lease(connection: Connection, clerk_id: str, expires_at: datetime) -> None:
    """Release the lease, unless it has expired and another process has its own."""
    await connection.execute(
        "delete from clerk_sync.fetches where clerk_id = $1 and expires_at = $2", clerk_id, expires_at
    )


async def prune_leases(connection: Connection) -> None:
    """Remove leases of processes that crashed."""
    await connection.execute("delete from clerk_sync.fetches where expires_at < now() - interval '1 hour'")


_TO_REFETCH = """
(
    select clerk_id from clerk_sync.identities
    where refetch_pending and deleted_at is null and clerk_id > $2
    order by clerk_id
    limit $1
)
union
(
    select clerk_id from clerk_sync.identities as pending
    where email_pending and clerk_id > $2
        and (confirmed_at is null or confirmed_at < now() - interval '10 minutes')
        and not exists (
            select from clerk_sync.events as e
            where e.clerk_id = pending.clerk_id and e.payload is not null and e.type <> 'user.deleted'
                and case
                    when jsonb_typeof(e.payload -> 'updated_at') = 'number'
                    then trunc((e.payload ->> 'updated_at')::numeric) = pending.version
                end
        )
    order by clerk_id
    limit $1
)
order by clerk_id
limit $1
"""

_ACQUIRE_LEASE = """
insert into clerk_sync.fetches as lease (clerk_id, expires_at) values ($1, now() + $2)
on conflict (clerk_id) do update set expires_at = excluded.expires_at where lease.expires_at < now()
returning expires_at
"""
