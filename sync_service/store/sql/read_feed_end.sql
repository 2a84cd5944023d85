-- The end of a page of the change feed: see store/feed.py.
with now as materialized (
    select snapshot, (pg_snapshot_xmax(snapshot)::text::bigint - 1)::text::xid8 as newest_transaction
    from pg_current_snapshot() as snapshot
),
writing as (
    select writer
    from now
    cross join lateral pg_snapshot_xip(now.snapshot) as writer
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
)
select coalesce(writing.writer, now.newest_transaction)::text as transaction_id,
    case
        when writing.writer is not null then 0
        else coalesce((select max(id) from clerk_sync.changes where transaction_id = now.newest_transaction), 0)
    end as number
from now
left join writing on true
