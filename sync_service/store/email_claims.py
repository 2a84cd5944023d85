"""Claims of two users to one email: the current owner, the release, the restoration."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from sync_service.clerk.change import Version
from sync_service.clerk.user import User
from sync_service.mapping.fields import COMPUTED
from sync_service.postgres.pool import Connection
from sync_service.store.access import BoundConnection


async def find_email_owner(bound: BoundConnection, email: str, clerk_id: str) -> asyncpg.Record | None:
    """Return `clerk_id`, `version`, `tiebreak` and `is_deleted` of another row that has the email, or None.

    The owner's identity is locked. All fields but the first are None for a row that this service has never written.
    """
    return await bound.connection.fetchrow(bound.queries.email.find_owner, email, clerk_id)


def has_older_claim(owner: asyncpg.Record, version: Version) -> bool:
    """Return whether the owner's claim is older than one of this version.

    Clerk gives an email to one user only, so the newer of two claims is right. A row that this service has never
    written has no version to compare and keeps its email.
    """
    if owner["is_deleted"]:
        return True
    return owner["version"] is not None and Version(owner["version"], owner["tiebreak"]) < version


async def release_email(bound: BoundConnection, clerk_id: str, email: str) -> bool:
    """Take the email off the user's row; return whether the row had it."""
    return await bound.connection.execute(bound.queries.email.release, clerk_id, email) != "UPDATE 0"


async def mark_email_pending(connection: Connection, clerk_id: str) -> None:
    """Record that the user's row shall show its email once that is free."""
    await connection.execute(
        "update clerk_sync.identities set email_pending = true, changed_at = now()"
        " where clerk_id = $1 and deleted_at is null",
        clerk_id,
    )


async def pending_emails(connection: Connection, limit: int, after: str = "") -> list[dict[str, Any]]:
    """Return `clerk_id`, `version`, `tiebreak` and `payload` of users whose row lacks its email, sorted by Clerk ID.

    `after` is the last Clerk ID of the page before.
    """
    rows = await connection.fetch(_PENDING, limit, after)
    return [dict(row) for row in rows]


async def restore_email(bound: BoundConnection, clerk_id: str, version: Version, email: str) -> bool:
    """Show the email on the row if it is free and the user still is at `version`; return whether it is shown."""
    query = bound.queries.email.restore
    return bool(await bound.connection.fetchval(query, clerk_id, version.updated_at, version.tiebreak, email))


async def link_rows_by_email(bound: BoundConnection, users: Sequence[User], *, lock_timeout_ms: int) -> int:
    """Give the Clerk ID to rows that have a user's verified email and no Clerk ID; return the number of rows.

    An unverified email never links: anybody can type another person's email into a form.
    """
    wanted = []
    for user in users:
        email = COMPUTED["primary_email"](user)
        if email and COMPUTED["primary_email_verified"](user):
            wanted.append((user.id, email))
    if not (bound.queries.email.link_rows and wanted):
        return 0
    clerk_ids, emails = map(list, zip(*sorted(wanted), strict=True))
    tag = await bound.connection.execute(bound.queries.email.link_rows, clerk_ids, emails, str(lock_timeout_ms))
    return int(tag.rpartition(" ")[2])


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
