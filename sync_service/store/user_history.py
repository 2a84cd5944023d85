"""The state and the history of one user, for operators; users by email."""

from datetime import datetime

from msgspec import Raw, Struct

from sync_service.clerk.entities import USER
from sync_service.mapping.queries import LookupQueries
from sync_service.postgres.pool import Connection
from sync_service.store.deliveries import Delivery, list_user_changes
from sync_service.store.event_filter import Filter
from sync_service.store.events import EventSummary, list_events

MAX_EVENTS = 50

DELETE_GRACE = "delete_grace"

_NO_ROW = Raw(b"null")


class Identity(Struct, frozen=True):
    """The service's knowledge of a user. `version` is Clerk's `updated_at` in milliseconds, None after a deletion."""

    version: int | None
    deleted_at: datetime | None
    restored_at: datetime | None
    created_by: str
    first_seen_at: datetime
    changed_at: datetime
    confirmed_at: datetime | None
    email_pending: bool


class DeletionState(Struct, frozen=True):
    """`deferred` until `due_at`, `waiting` for a retry or for an operator, or `completed`."""

    state: str
    deleted_at: datetime
    due_at: datetime | None


class UserHistory(Struct, frozen=True):
    """A user: the row as JSON or null, the identity, the newest events, the newest recorded changes."""

    clerk_id: str
    row: Raw
    version: int | None
    deletion: DeletionState | None
    identity: Identity | None
    events: list[EventSummary]
    changes: list[Delivery]

    @property
    def is_known(self) -> bool:
        """Whether there is a row, an identity or an event of this user."""
        return bool(self.identity or self.events) or self.row != _NO_ROW


async def get_user_history(connection: Connection, lookups: LookupQueries, clerk_id: str) -> UserHistory:
    """Return the state of a user, known or not. Raises the errors of asyncpg.

    The ID of a session, organization or membership is that of no user.
    """
    record = await connection.fetchrow(_IDENTITY, clerk_id)
    *fields, entity = record or (None,)
    if entity not in {USER.name, None}:
        return UserHistory(clerk_id, _NO_ROW, None, None, None, [], [])
    row = await connection.fetchval(lookups.row, clerk_id)
    identity = Identity(*fields) if record else None
    events = await list_events(connection, Filter(clerk_id=clerk_id), MAX_EVENTS)
    return UserHistory(
        clerk_id=clerk_id,
        row=Raw(row.encode()) if row else _NO_ROW,
        version=identity.version if identity else None,
        deletion=await _read_deletion(connection, clerk_id, identity),
        identity=identity,
        events=events,
        changes=await list_user_changes(connection, clerk_id, MAX_EVENTS),
    )


async def _read_deletion(connection: Connection, clerk_id: str, identity: Identity | None) -> DeletionState | None:
    if identity is None or identity.deleted_at is None:
        return None
    waiting = await connection.fetchrow(_WAITING_DELETION, clerk_id, USER.deletion, DELETE_GRACE)
    if waiting is None:
        return DeletionState("completed", identity.deleted_at, None)
    state = "deferred" if waiting["reason"] == DELETE_GRACE else "waiting"
    return DeletionState(state, identity.deleted_at, waiting["next_attempt_at"])


async def find_users_by_email(connection: Connection, lookups: LookupQueries, email: str) -> list[str]:
    """Return the Clerk IDs of the rows with this email; none if the mapping has no column for it.

    Raises the errors of asyncpg.
    """
    if lookups.users_by_email is None:
        return []
    rows = await connection.fetch(lookups.users_by_email, email, email.lower())
    return [row["clerk_id"] for row in rows if row["clerk_id"]]


_IDENTITY = """
select version, deleted_at, restored_at, created_by, first_seen_at, changed_at, confirmed_at, email_pending, entity
from clerk_sync.identities where clerk_id = $1
"""

_WAITING_DELETION = """
select reason, next_attempt_at
from clerk_sync.events
where clerk_id = $1 and type = $2 and status in ('failed', 'dead')
order by reason = $3 desc, received_at
limit 1
"""
