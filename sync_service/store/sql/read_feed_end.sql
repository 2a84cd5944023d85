-- The end of a page of the change feed: see store/feed.py. The locks are read after the last number, because the sub-select
-- needs the row of `now`.
with now as materialized (
    select last_value as number, pg_current_snapshot() as snapshot from clerk_sync.changes_id_seq
)
select
    now.number,
    coalesce(
        (
            select writer
            from pg_snapshot_xip(now.snapshot) as writer
            where writer::xid in (
                select own.transactionid
                from pg_locks as held
                join pg_locks as own using (virtualtransaction)
                where held.relation = 'clerk_sync.changes'::regclass
                    and held.database = (select oid from pg_database where datname = current_database())
                    and held.mode = 'RowExclusiveLock'
                    and own.locktype = 'transactionid'
            )
            order by writer
            limit 1
        ),
        pg_snapshot_xmax(now.snapshot)
    )::text as transaction_id
from now
