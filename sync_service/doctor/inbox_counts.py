"""Counts from the schema clerk_sync: events by status, known users, times."""

from msgspec import Struct

from sync_service.doctor.counts import Counter


class InboxCounts(Struct, frozen=True):
    """The state of the inbox; None means not counted. Times are seconds before now.

    `pinned_instance` is the Clerk instance of the accepted events.
    `silent_seconds`: time since the last event; None without any event.
    `new_users_since_last_webhook` are users first seen after the last webhook, for instance at a login.
    `pending_emails` are users without an email or another unique value, because another row still has it.
    """

    installed_seconds: float
    silent_seconds: float | None
    pinned_instance: str | None
    bytes: int
    failed: int | None = None
    oldest_failed_seconds: float | None = None
    dead: int | None = None
    identities: int | None = None
    new_users_since_last_webhook: int | None = None
    pending_emails: int | None = None


async def count_inbox(counter: Counter) -> InboxCounts:
    """Return the state of the inbox. Raises errors of asyncpg, also without the schema clerk_sync."""
    found = dict(await counter.connection.fetchrow(_INBOX_SQL) or {})
    for sql in (_FAILED_SQL, _DEAD_SQL, _IDENTITIES_SQL):
        found |= await counter.fetch_row(sql)
    return InboxCounts(**found)


_INBOX_SQL = """
select
    extract(epoch from now() - (select min(applied_at) from clerk_sync.migrations))::float8 as installed_seconds,
    extract(epoch from now() - (select max(received_at) from clerk_sync.events))::float8 as silent_seconds,
    (select id from clerk_sync.instance) as pinned_instance,
    pg_total_relation_size('clerk_sync.events') as bytes
"""

_FAILED_SQL = """
select count(*) as failed, extract(epoch from now() - min(received_at))::float8 as oldest_failed_seconds
from clerk_sync.events where status = 'failed'
"""

_DEAD_SQL = """
select count(*) as dead from clerk_sync.events where status = 'dead'
"""

_IDENTITIES_SQL = """
select
    count(*) as identities,
    count(*) filter (where created_by <> 'webhook' and first_seen_at > coalesce(
        (select max(received_at) from clerk_sync.events), '-infinity')) as new_users_since_last_webhook,
    count(*) filter (where email_pending) as pending_emails
from clerk_sync.identities
where entity = 'user'
"""
