-- Files one event that cannot be applied: its reason, what stood in the way, its next attempt, or its death.
-- A deletion that failed still leaves its tombstone, so that nothing brings the user back meanwhile.
with tombstone as (
    insert into clerk_sync.identities as known (clerk_id, deleted_at, created_by)
    select $4::text, now(), $10::text
    where $5::text = 'deletion'
    on conflict (clerk_id) do update
        set version = null, tie = null, deleted_at = now(), changed_at = now(),
            address_wanted = false, refetch_wanted = false
        where known.deleted_at is null
),
filed as (
    insert into clerk_sync.events as e
        (id, type, instance_id, clerk_id, status, reason, payload, failures, next_attempt_at)
    select
        $1::text, $2::text, $3::text, $4, case when $11::integer > 1 then 'failed' else 'dead' end, $7::text, $6::jsonb,
        jsonb_build_array(jsonb_build_object(
            'at', now(), 'reason', $7, 'table', $8::text, 'column', $9::text, 'constraint', $13::text
        )),
        case when $11 > 1 then now() + $12::interval end
    on conflict (id) do update
        set reason = excluded.reason,
            attempts = e.attempts + 1,
            failures = e.failures || excluded.failures,
            status = case when e.attempts + 1 < $11 then 'failed' else 'dead' end,
            -- Three times as long with every attempt, up to an hour: soon for what passes by itself, and hours in all
            -- for what somebody must repair. A quarter more or less, lest all come back at once.
            next_attempt_at = case
                when e.attempts + 1 < $11
                then now() + least($12 * 3 ^ least(e.attempts, 12), interval '1 hour') * (0.75 + random() / 2)
            end
        where e.status in ('failed', 'dead')
    returning status
)
select status from filed
