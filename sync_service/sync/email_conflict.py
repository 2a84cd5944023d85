"""Two users claim one unique value, such as the email: the newer claim is shown, the other row waits."""

import asyncpg
import structlog

from sync_service.clerk.change import Snapshot, Version
from sync_service.clerk.events import Event
from sync_service.clerk.objects import parse_change
from sync_service.clerk.resource import UNREADABLE_JSON
from sync_service.errors import ChangeRejected, DoubtfulError
from sync_service.mapping.fields import fill_placeholder
from sync_service.mapping.queries import ClaimQueries
from sync_service.mapping.table import Row
from sync_service.store.access import BoundConnection, Store
from sync_service.store.changes import apply_changes
from sync_service.store.email_claims import (
    find_holder,
    has_older_claim,
    mark_email_pending,
    pending_emails,
    release_value,
    restore_values,
)
from sync_service.store.rows import row_for

log = structlog.get_logger()

EMAIL_CONFLICT = "email_conflict"


async def resolve_email_conflict(
    store: Store, event: Event, snapshot: Snapshot, *, source: str, lock_timeout_ms: int
) -> asyncpg.Record:
    """Apply a snapshot after a unique violation, settling the claims to its unique values; return its record.

    Raises `DatabaseError`; `ChangeRejected` also where the mapping says that such an event waits.
    """
    async with store.acquire() as bound, bound.connection.transaction():
        row = row_for(bound.queries, snapshot)
        losers = set()
        for claim in bound.queries.claims:
            loser = await _decide_loser(store, bound, claim, snapshot, row)
            if loser == snapshot.clerk_id:
                row[claim.rule.column] = fill_placeholder(claim.released, loser)
            if loser:
                losers.add(loser)
                winner = "the other user" if loser == snapshot.clerk_id else "this user"
                log.warning(EMAIL_CONFLICT, column=claim.rule.column, shown_by=winner)
        # If the holder is gone, the row may fit now. If another constraint rejects it, this statement names that one.
        [record] = await apply_changes(bound, [event], source=source, lock_timeout_ms=lock_timeout_ms, row=row)
        # Also after a stale snapshot: the released value is free again and is restored.
        for loser in sorted(losers):
            await mark_email_pending(bound.connection, loser)
        return record


async def _decide_loser(
    store: Store, bound: BoundConnection, claim: ClaimQueries, snapshot: Snapshot, row: Row
) -> str | None:
    """Return the user whose row does not show the value; take it off the holder's row if that is the loser.

    None means that no other row has the value, or no longer has it. Raises `ChangeRejected` where the mapping says that
    the newer event waits.
    """
    holder = await find_holder(bound, claim, row, snapshot.clerk_id)
    if holder is None:
        return None
    if not claim.can_release:
        column = claim.rule.column
        is_email = store.mapping.columns[column].shows_email
        reason = EMAIL_CONFLICT if is_email else "unique_violation"
        raise ChangeRejected(reason, table=store.mapping.table, column=column, constraint=claim.rule.index.name)
    # The app's own value stays: Clerk does not overwrite it in this column.
    is_kept = claim.keeps_holder and not holder["is_deleted"]
    if is_kept or not has_older_claim(holder, store.mapping.compute_version(snapshot)):
        return snapshot.clerk_id
    released = await release_value(bound, claim, holder)
    return str(holder["clerk_id"]) if released else None


async def restore_emails(store: Store, *, after: str = "", limit: int = 100) -> tuple[int, str]:
    """Show values that have become free on the rows that lack them. Raises `DatabaseUnavailable`.

    Returns the number of users, and the last user of this page: the next call continues after that user, so that values
    which stay taken do not keep others waiting. The last page ends with the empty text.
    """
    async with store.acquire() as bound:
        if not bound.queries.claims:
            return 0, ""
        pending = await pending_emails(bound.connection, limit, after)
    restored = 0
    for user in pending:
        try:
            async with store.acquire() as bound:
                restored += await _restore_values(store, bound, user)
        # Another row took the value at this moment, or a trigger refuses it.
        except (ChangeRejected, DoubtfulError) as error:
            log.info("email_restore_failed", reason=error.reason)
        except UNREADABLE_JSON as error:
            log.info("email_restore_failed", reason=type(error).__name__)
    return restored, pending[-1]["clerk_id"] if len(pending) == limit else ""


async def _restore_values(store: Store, bound: BoundConnection, user: dict[str, object]) -> bool:
    change = parse_change("user.updated", str(user["payload"]).encode())
    version = Version(user["version"], user["tiebreak"])  # type: ignore[arg-type]  # as the columns are declared
    # The payload contains everything that the digest covers. Another digest means another content of that millisecond.
    if not isinstance(change, Snapshot) or store.mapping.compute_version(change).digest != version.digest:
        return False
    return await restore_values(bound, row_for(bound.queries, change), change.clerk_id, version)
