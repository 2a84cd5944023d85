"""When two users claim one address: who holds it, who gives it up, who gets it back."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from sync_service.clerk.values import User, Version
from sync_service.mapping.sources import COMPUTED
from sync_service.postgres.pool import Connection
from sync_service.postgres.statements import Statements


async def holder_of(
    connection: Connection, statements: Statements, address: str, clerk_id: str
) -> asyncpg.Record | None:
    """Return `clerk_id`, `version`, `tie` and `deleted` of another row that has the address, locked; or None.

    All three but the first are None for a row that this service has never written.
    """
    return await connection.fetchrow(statements.holder, address, clerk_id)


def gives_way(holder: asyncpg.Record, version: Version) -> bool:
    """Return whether the holder's claim is older than one of that version.

    Clerk lets no two users have one address, so the newer of two claims is the true one. A row that this service
    never wrote has no version to lose by: it is not touched.
    """
    if holder["deleted"]:
        return True
    return holder["version"] is not None and Version(holder["version"], holder["tie"]) < version


async def release(connection: Connection, statements: Statements, clerk_id: str, address: str) -> bool:
    """Take the address off that user's row; return whether it was there."""
    return await connection.execute(statements.release, clerk_id, address) != "UPDATE 0"


async def want_address(connection: Connection, clerk_id: str) -> None:
    """Note that the user's row is to show its address once that is free."""
    await connection.execute(
        "update clerk_sync.identities set address_wanted = true, changed_at = now()"
        " where clerk_id = $1 and deleted_at is null",
        clerk_id,
    )


async def wanting(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return `clerk_id`, `version`, `tie` and `payload` of users whose rows want their address."""
    rows = await connection.fetch(_WANTING, limit)
    return [dict(row) for row in rows]


async def give_back(
    connection: Connection, statements: Statements, clerk_id: str, version: Version, address: str
) -> bool:
    """Show the address on the user's row, if it is free and the user is still as of `version`; return whether it is."""
    return bool(await connection.fetchval(statements.give_back, clerk_id, version.updated_at, version.tie, address))


async def adopt_rows(connection: Connection, statements: Statements, users: Sequence[User], *, patience_ms: int) -> int:
    """Give the Clerk ID to rows that have a user's verified address and none; return how many. See link.sql.

    Never an address that Clerk has not verified: whoever types somebody's address into a form would get the row.
    """
    wanted = sorted(
        (user.id, address)
        for user in users
        if COMPUTED["primary_email_verified"](user) and (address := COMPUTED["primary_email"](user))
    )
    if not (statements.link and wanted):
        return 0
    ids, addresses = map(list, zip(*wanted, strict=True))
    tag = await connection.execute(statements.link, ids, addresses, str(patience_ms))
    return int(tag.rpartition(" ")[2])


# The event that the row shows: the newest version among those whose payload is still there.
_WANTING = """
select i.clerk_id, i.version, i.tie, e.payload
from clerk_sync.identities as i
cross join lateral (
    select payload
    from clerk_sync.events
    where clerk_id = i.clerk_id and payload is not null and type <> 'user.deleted'
        and status in ('applied', 'stale')
        and (payload ->> 'updated_at')::numeric::bigint = i.version
    order by received_at desc
    limit 1
) as e
where i.address_wanted
limit $1
"""
