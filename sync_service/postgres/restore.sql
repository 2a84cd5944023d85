-- Takes a deletion back, as long as its row is there. What Clerk last said of the user is forgotten with the tombstone;
-- anything that it says from now on is newer.
with kept as (
    update clerk_sync.identities as known
    set version = 0, tie = '', deleted_at = null, kept_at = now(), changed_at = now()
    from {table} as app
    where known.clerk_id = $1 and known.deleted_at is not null and app.{clerk_id}::text = $1
    returning known.clerk_id
),
unmarked as (
    {unmarked} and exists (select from kept)
),
settled as (
    update clerk_sync.events as e
    set status = 'stale', reason = null, next_attempt_at = null, finished_at = now()
    from kept
    where e.clerk_id = kept.clerk_id and e.status in ('failed', 'dead')
)
select exists (select from kept)
