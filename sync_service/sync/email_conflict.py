"""Two users claim one email: the newer claim is shown, the other row shows null until the email is free."""

import structlog

from sync_service.clerk.change import Snapshot, Version
from sync_service.clerk.events import Event, parse_change
from sync_service.clerk.user import UNREADABLE_JSON
from sync_service.errors import ChangeRejected, DoubtfulError
from sync_service.mapping.fields import fill_placeholder
from sync_service.store.access import BoundConnection, Store
from sync_service.store.changes import apply_changes, row_for
from sync_service.store.email_claims import (
    find_email_owner,
    has_older_claim,
    mark_email_pending,
    pending_emails,
    release_email,
    restore_email,
)

log = structlog.get_logger()

EMAIL_CONFLICT = "email_conflict"


async def resolve_email_conflict(
    store: Store, event: Event, snapshot: Snapshot, *, source: str, lock_timeout_ms: int
) -> str:
    """Apply a snapshot after a unique violation, settling the claims to its email; return its status.

    Raises `DatabaseError`; `ChangeRejected` also where the mapping says that such an event waits.
    """
    async with store.acquire() as bound, bound.connection.transaction():
        policy = bound.queries.email.policy
        row = row_for(bound.queries, snapshot)
        column = policy.unique_column
        email = row[column] if column else None
        loser = None
        if column and email:
            loser = await _decide_loser(store, bound, snapshot, email)
            if loser == snapshot.clerk_id:
                row[column] = fill_placeholder(policy.placeholder, snapshot.clerk_id)
        # If the owner is gone, the row may fit now. If another constraint rejects it, this statement names that one.
        [record] = await apply_changes(bound, [event], source=source, lock_timeout_ms=lock_timeout_ms, row=row)
        # Also after a stale snapshot: the released email is free again and is restored.
        if loser:
            await mark_email_pending(bound.connection, loser)
            log.warning(EMAIL_CONFLICT, shown_by="the other user" if loser == snapshot.clerk_id else "this user")
        return str(record["status"])


async def _decide_loser(store: Store, bound: BoundConnection, snapshot: Snapshot, email: str) -> str | None:
    """Return the user whose row does not show the email; take it off the owner's row if that is the loser.

    None means that no other row has the email, or no longer has it. Raises `ChangeRejected` where the mapping says that
    the newer event waits.
    """
    owner = await find_email_owner(bound, email, snapshot.clerk_id)
    if owner is None:
        return None
    policy = bound.queries.email.policy
    if not policy.can_release:
        raise ChangeRejected(EMAIL_CONFLICT, table=store.mapping.table, column=policy.unique_column)
    if not has_older_claim(owner, store.mapping.compute_version(snapshot)):
        return snapshot.clerk_id
    released = await release_email(bound, owner["clerk_id"], email)
    return str(owner["clerk_id"]) if released else None


async def restore_emails(store: Store, *, after: str = "", limit: int = 100) -> tuple[int, str]:
    """Show emails that have become free on the rows that lack them. Raises `DatabaseUnavailable`.

    Returns their number, and the last user of this page: the next call continues after that user, so that emails which
    stay taken do not keep others waiting. The last page ends with the empty text.
    """
    async with store.acquire() as bound:
        if bound.queries.email.policy.unique_column is None:
            return 0, ""
        pending = await pending_emails(bound.connection, limit, after)
    restored = 0
    for user in pending:
        try:
            async with store.acquire() as bound:
                restored += await _restore_email(store, bound, user)
        # Another row took the email at this moment, or a trigger refuses it.
        except (ChangeRejected, DoubtfulError) as error:
            log.info("email_restore_failed", reason=error.reason)
        except UNREADABLE_JSON as error:
            log.info("email_restore_failed", reason=type(error).__name__)
    return restored, pending[-1]["clerk_id"] if len(pending) == limit else ""


async def _restore_email(store: Store, bound: BoundConnection, user: dict[str, object]) -> bool:
    change = parse_change("user.updated", str(user["payload"]).encode())
    version = Version(user["version"], user["tiebreak"])  # type: ignore[arg-type]  # as the columns are declared
    column = bound.queries.email.policy.unique_column
    # The payload contains everything that the digest covers. Another digest means another content of that millisecond.
    if not isinstance(change, Snapshot) or store.mapping.compute_version(change).digest != version.digest or not column:
        return False
    email = row_for(bound.queries, change)[column]
    return await restore_email(bound, change.clerk_id, version, email)
