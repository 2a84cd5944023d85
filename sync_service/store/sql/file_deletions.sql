-- The first step of a deletion: writes the tombstones and files the events, in one statement that commits at once.
-- From then on no source recreates these users, and a crash loses no deletion: each event waits as `failed` until
-- mapping/sql/delete_rows.sql has deleted its row.
with input as (
    select i.*, row_number() over (partition by event_id order by n) = 1 as first
    from
        (select set_config('lock_timeout', $8, true)) as lock_timeout,
        unnest((select $1::text[]), (select $2::text[]), (select $3::text[]), (select $4::text[]))
            with ordinality as i (event_id, type, instance_id, clerk_id, n)
),
tombstoned as (
    insert into clerk_sync.identities as known (clerk_id, deleted_at, created_by, confirmed_at, entity)
    select distinct clerk_id, now(), $5, now(), $9::text
    from input
    order by clerk_id
    on conflict (clerk_id) do update
        set version = null, tiebreak = null, deleted_at = now(), changed_at = now(), confirmed_at = now(),
            email_pending = false, refetch_pending = false
        -- After an operator has restored the user, repetitions of the deletion have no effect.
        where known.deleted_at is null and known.restored_at is null
    returning clerk_id, deleted_at
),
decided as (
    select
        input.*,
        -- The grace period begins with the first event; a second event does not extend it.
        coalesce(tombstoned.deleted_at, known.deleted_at, now()) + $6::interval as due_at,
        case
            when tombstoned.clerk_id is null and known.deleted_at is null and known.restored_at is not null then 'stale'
            when $6 > interval '0' and coalesce(tombstoned.deleted_at, known.deleted_at, now()) + $6 > now() then 'deferred'
            else 'due'
        end as state
    from input
    left join tombstoned using (clerk_id)
    -- An operator may have restored the user after this statement's snapshot and before its lock.
    left join lateral (
        select i.deleted_at, i.restored_at
        from clerk_sync.current_identity(input.clerk_id) as i
        where tombstoned.clerk_id is null
        offset 0
    ) as known on true
),
filed as (
    insert into clerk_sync.events as e
        (id, type, instance_id, clerk_id, status, reason, attempts, next_attempt_at, finished_at)
    select
        event_id, type, instance_id, clerk_id,
        case state when 'stale' then 'stale' else 'failed' end,
        case state when 'deferred' then 'delete_grace' when 'due' then 'long_deletion' end,
        -- The end of the second step counts the attempt.
        case state when 'due' then 0 else 1 end,
        case state when 'deferred' then due_at when 'due' then now() + $7::interval end,
        case state when 'stale' then now() end
    from decided
    where event_id is not null and first
    order by event_id
    on conflict (id) do update
        set status = excluded.status, reason = excluded.reason, next_attempt_at = excluded.next_attempt_at,
            finished_at = excluded.finished_at,
            attempts = e.attempts + case when excluded.status = 'stale' then 1 else 0 end
        where e.status in ('failed', 'dead')
    returning id
)
select
    state,
    -- A replay reports the outcome again instead of `duplicate`.
    $5 <> 'replay' and event_id is not null and (filed.id is null or not first) as is_duplicate
from decided
left join filed on filed.id = decided.event_id
order by n
