-- Holds a deletion back until its grace, which began with the first word of it, has passed: the tombstone stands, the
-- row is marked, and the event waits. One row `held`: false when the time has come, or when it is not to be.
with tombstone as (
    insert into clerk_sync.identities as known (clerk_id, deleted_at, created_by)
    values ($1, now(), $5)
    on conflict (clerk_id) do update
        set version = null, tie = null, deleted_at = now(), changed_at = now(),
            address_wanted = false, refetch_wanted = false
        where known.deleted_at is null and known.kept_at is null
    returning deleted_at
),
due as (
    select coalesce(
        (select deleted_at from tombstone), (select deleted_at from clerk_sync.identities where clerk_id = $1)
    ) + $6::interval as at
),
marked as (
    {marked} and exists (select from tombstone)
),
filed as (
    insert into clerk_sync.events as e (id, type, instance_id, clerk_id, status, reason, next_attempt_at)
    select $2, $3, $4, $1, 'failed', 'delete_grace', due.at
    from due
    where due.at > now() and $2::text is not null
    on conflict (id) do update
        set status = 'failed', reason = excluded.reason, next_attempt_at = excluded.next_attempt_at
        where e.status in ('failed', 'dead')
)
select coalesce(at > now(), false) as held from due
