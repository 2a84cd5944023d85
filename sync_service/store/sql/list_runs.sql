-- The newest runs of the reconcile with their reports; $2 selects one run.
select
    id, mode, dry_run, started_at, finished_at, users, missing, stale, differing, deleted, repaired, refused, failed,
    columns, error
from clerk_sync.reconciles
where $2::bigint is null or id = $2
order by id desc
limit $1
