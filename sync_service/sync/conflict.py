"""Two users who claim one address: the newer claim is the true one, the other shows null until the address is free."""

import asyncpg
import structlog

from sync_service.clerk.events import Event, read_change
from sync_service.clerk.values import Snapshot, Version
from sync_service.errors import Unappliable
from sync_service.mapping.sources import filled
from sync_service.postgres.addresses import give_back, gives_way, holder_of, release, want_address, wanting
from sync_service.postgres.faults import translated
from sync_service.postgres.inbox import apply_changes
from sync_service.postgres.statements import Statements

log = structlog.get_logger()

EMAIL_CONFLICT = "email_conflict"


async def settle_address(
    pool: asyncpg.Pool, statements: Statements, event: Event, snapshot: Snapshot, *, source: str, patience_ms: int
) -> str | None:
    """Apply a snapshot whose address another row has; return its status, or None if it has no address.

    Raises what asyncpg raises, and `Unappliable` where the mapping says that such an event waits.
    """
    mapping, fit = statements.mapping, statements.fit
    row = statements.fitted(snapshot)
    address = row.get(fit.email) if fit.email else None
    if fit.email is None or address is None:
        return None
    async with pool.acquire() as connection, connection.transaction():
        holder = await holder_of(connection, statements, address, snapshot.clerk_id)
        if holder and not fit.releases:
            raise Unappliable(EMAIL_CONFLICT, table=mapping.table, column=fit.email)
        loser = None
        if holder and gives_way(holder, mapping.version(snapshot)):
            if await release(connection, statements, holder["clerk_id"], address):
                loser = holder["clerk_id"]
        elif holder:
            row[fit.email] = filled(fit.release, snapshot.clerk_id)
            loser = snapshot.clerk_id
        # Without a holder, or no longer, it may just fit now; if something else is in the way, this says what.
        [record] = await apply_changes(connection, statements, [event], source=source, patience_ms=patience_ms, row=row)
        # Also when the snapshot has become stale meanwhile: then the address is free again, and given back.
        if loser is not None:
            await want_address(connection, loser)
        log.warning(EMAIL_CONFLICT, shown_by="this user" if row[fit.email] == address else "the other")
        return str(record["status"])


async def give_back_addresses(pool: asyncpg.Pool, statements: Statements, *, limit: int = 100) -> int:
    """Show the addresses that have become free on the rows that want them; return how many."""
    given = 0
    with translated():
        async with pool.acquire() as connection:
            await statements.held_against(connection)
            email = statements.fit.email
            if email is None:
                return given
            for user in await wanting(connection, limit):
                change = read_change("user.updated", user["payload"].encode())
                version = Version(user["version"], user["tie"])
                # The payload has lost nothing that the digest is made of, so another one was told at that instant.
                if not isinstance(change, Snapshot) or statements.mapping.version(change).content != version.content:
                    continue
                address = statements.fitted(change)[email]
                try:
                    with translated():
                        given += await give_back(connection, statements, user["clerk_id"], version, address)
                except Unappliable as fault:  # somebody took it in this very moment
                    log.info("address not given back", reason=fault.reason)
    return given
