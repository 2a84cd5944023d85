"""Figures of the inbox and of the reconcile, for the metrics."""

from msgspec import Struct

from sync_service.postgres.pool import Connection


class Figures(Struct, frozen=True):
    """Times are Unix seconds, 0 if there is none.

    `missing`, `stale`, `differing` and `deleted` are those of the last run that could compare; a run with a wrong key
    could not.
    """

    last_accepted_at: float = 0
    failed: int = 0
    dead: int = 0
    oldest_failed_at: float = 0
    last_reconcile_at: float = 0
    missing: int = 0
    stale: int = 0
    differing: int = 0
    deleted: int = 0
    pending_deliveries: int = 0
    dead_deliveries: int = 0


async def read_figures(connection: Connection) -> Figures:
    """Return the figures as they are now, by one query that reads indexes. Raises the errors of asyncpg."""
    return Figures(**dict(await connection.fetchrow(FIGURES) or {}))


# Each of the other subqueries stops at its first row of an index. A run from the inbox compares nothing with Clerk, so
# it is no reconcile here.
FIGURES = """
select
    coalesce(extract(epoch from (select max(received_at) from clerk_sync.events)), 0)::float8 as last_accepted_at,
    waiting.failed,
    waiting.dead,
    coalesce(extract(epoch from waiting.oldest_failed), 0)::float8 as oldest_failed_at,
    coalesce(extract(epoch from (
        select finished_at from clerk_sync.reconciles
        where finished_at is not null and error is null and not dry_run and mode <> 'inbox' order by id desc limit 1
    )), 0)::float8 as last_reconcile_at,
    coalesce(last_run.missing, 0) as missing,
    coalesce(last_run.stale, 0) as stale,
    coalesce(last_run.differing, 0) as differing,
    coalesce(last_run.deleted, 0) as deleted,
    (select count(*) from clerk_sync.changes where delivery = 'pending') as pending_deliveries,
    (select count(*) from clerk_sync.changes where delivery = 'dead') as dead_deliveries
from (
    select
        count(*) filter (where status = 'failed') as failed,
        count(*) filter (where status = 'dead') as dead,
        min(received_at) filter (where status = 'failed' and reason is distinct from 'delete_grace') as oldest_failed
    from clerk_sync.events where status in ('failed', 'dead')
) as waiting
left join (
    select missing, stale, differing, deleted
    from clerk_sync.reconciles
    where finished_at is not null and not dry_run and mode <> 'inbox'
        and (error is null or missing + stale + differing + deleted > 0)
    order by id desc limit 1
) as last_run on true
"""
