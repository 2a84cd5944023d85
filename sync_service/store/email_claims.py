"""Claims of two users to one unique value, such as the email: the holder, the release, the restoration."""

from collections.abc import Mapping
from typing import Any

import asyncpg
import msgspec

from sync_service.clerk.change import Version
from sync_service.mapping.queries import ClaimQueries
from sync_service.postgres.pool import Connection
from sync_service.store.access import BoundConnection


async def find_holder(
    bound: BoundConnection, claim: ClaimQueries, row: Mapping[str, Any], clerk_id: str
) -> asyncpg.Record | None:
    """Return `clerk_id`, `value`, `version`, `tiebreak` and `is_deleted` of another row with the row's value, or None.

    The holder's identity is locked. The last three fields are None for a row that this service has never written.
    """
    if row[claim.rule.column] is None:
        return None
    return await bound.connection.fetchrow(claim.find_holder, msgspec.json.encode(row).decode(), clerk_id)


def has_older_claim(holder: asyncpg.Record, version: Version) -> bool:
    """Return whether the holder's claim is older than one of this version.

    Clerk gives such a value to one user only, so the newer of two claims is right. A row that this service has never
    written has no version to compare and keeps its value.
    """
    if holder["is_deleted"]:
        return True
    return holder["version"] is not None and Version(holder["version"], holder["tiebreak"]) < version


async def release_value(bound: BoundConnection, claim: ClaimQueries, holder: asyncpg.Record) -> bool:
    """Take the value off the holder's row; return whether the row had it."""
    return bool(await bound.connection.fetchval(claim.release, holder["clerk_id"], holder["value"]))


async def mark_email_pending(connection: Connection, clerk_id: str) -> None:
    """Record that the user's row shall show its values once they are free, and that Clerk is asked about the user."""
    await connection.execute(
        "update clerk_sync.identities set email_pending = true, refetch_pending = true, changed_at = now()"
        " where clerk_id = $1 and deleted_at is null",
        clerk_id,
    )


async def list_pending_users(connection: Connection, limit: int, after: str) -> list[str]:
    """Return the users whose row lacks a value, sorted by Clerk ID; `after` is the last one of the page before."""
    sql = "select clerk_id from clerk_sync.identities where email_pending and clerk_id > $2 order by clerk_id limit $1"
    return [row["clerk_id"] for row in await connection.fetch(sql, limit, after)]


async def pending_emails(connection: Connection, limit: int, after: str = "") -> list[dict[str, Any]]:
    """Return `clerk_id`, `version`, `tiebreak` and `payload` of users whose row lacks a value, sorted by Clerk ID.

    `after` is the last Clerk ID of the page before.
    """
    rows = await connection.fetch(_PENDING, limit, after)
    return [dict(row) for row in rows]


async def restore_values(bound: BoundConnection, row: Mapping[str, Any], clerk_id: str, version: Version) -> bool:
    """Show the free values on the row if the user still is at `version`; return whether all of them are shown."""
    connection, claims = bound.connection, bound.queries.claims
    document = msgspec.json.encode(row).decode()
    async with connection.transaction():
        if not await connection.fetchval(_LOCK_PENDING, clerk_id, version.updated_at, version.tiebreak):
            return False
        lacking = {claim.rule.column for claim in claims if await find_holder(bound, claim, row, clerk_id)}
        for column, restore in {claim.rule.column: claim.restore for claim in claims}.items():
            if column not in lacking and not await connection.fetchval(restore, clerk_id, document):
                lacking.add(column)
        if not lacking:
            await connection.execute(_CLEAR_PENDING, clerk_id)
        return not lacking


# The payload with the version of the row: among those with this version, the newest that the inbox still has.
_PENDING = """
select i.clerk_id, i.version, i.tiebreak, e.payload
from clerk_sync.identities as i
cross join lateral (
    select payload
    from clerk_sync.events
    where clerk_id = i.clerk_id and payload is not null and type <> 'user.deleted'
        and status in ('applied', 'stale')
        -- A cast alone would fail for all users if one payload has no number here.
        and case
            when jsonb_typeof(payload -> 'updated_at') = 'number'
            then trunc((payload ->> 'updated_at')::numeric) = i.version
        end
    order by received_at desc
    limit 1
) as e
where i.email_pending and i.clerk_id > $2
order by i.clerk_id
limit $1
"""

_LOCK_PENDING = """
select true from clerk_sync.identities
where clerk_id = $1 and version = $2 and tiebreak = $3 and email_pending
for update
"""

_CLEAR_PENDING = "update clerk_sync.identities set email_pending = false where clerk_id = $1"
