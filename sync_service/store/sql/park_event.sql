-- Files one event that cannot be applied: the reason, the objects that caused it, the next attempt or the dead letter.
with deleted as materialized (
    -- The lock returns the identity as it is now, and a deletion that follows removes the payload.
    select i.deleted_at is not null and $2 not like '%.deleted' as is_final
    from clerk_sync.identities as i
    where i.clerk_id in ($4, $15::text)
    for share
),
parked as materialized (
    -- An event of a deleted user, or of a session of one, has no effect any more, and its data is not kept.
    select coalesce((select bool_or(is_final) from deleted), false) as is_stale
),
filed as (
    insert into clerk_sync.events as e
        (id, type, instance_id, clerk_id, status, reason, payload, failures, next_attempt_at, finished_at, waiting_for,
        user_id, attempts)
    select
        $1::text, $2::text, $3::text, $4,
        case when is_stale then 'stale' when $9::integer > 1 or $14::text is not null then 'failed' else 'dead' end,
        case when not is_stale then $6::text end,
        case when not is_stale then $5::jsonb end,
        jsonb_build_array(jsonb_build_object(
            'at', now(), 'reason', $6, 'table', $7::text, 'column', $8::text, 'constraint', $11::text
        ) || jsonb_strip_nulls(jsonb_build_object('function', $12::text))),
        case when ($9 > 1 or $14 is not null) and not is_stale then now() + $10::interval end,
        case when is_stale then now() end,
        case when not is_stale then $14 end,
        $15,
        -- Waiting for a parent is no attempt.
        case when $14 is null then 1 else 0 end
    from parked
    on conflict (id) do update
        set reason = excluded.reason,
            attempts = e.attempts + excluded.attempts,
            failures = case
                when excluded.waiting_for = e.waiting_for then e.failures else e.failures || excluded.failures
            end,
            waiting_for = excluded.waiting_for,
            payload = case
                when excluded.status = 'stale' then null
                when e.finished_at is null then e.payload
                else coalesce(e.payload, excluded.payload)
            end,
            finished_at = excluded.finished_at,
            status = case
                when excluded.status = 'stale' then 'stale'
                when $14 is not null or e.attempts + 1 < $9 then 'failed'
                else 'dead'
            end,
            -- Exponential backoff: three times as long with each attempt, up to an hour. A temporary obstacle costs
            -- seconds, and one that needs an operator leaves hours. Jitter of a quarter spreads the load.
            next_attempt_at = case
                when excluded.waiting_for is not null
                -- The pause grows with the time that the event has waited. The arrival of the parent ends it.
                then now() + least(greatest($10, now() - e.received_at), interval '1 hour') * (0.75 + random() / 2)
                when excluded.status <> 'stale' and e.attempts + 1 < $9
                then now() + least($10 * 3 ^ least(e.attempts, 12), interval '1 hour') * (0.75 + random() / 2)
            end
        -- An applied event waits again if its row is missing and was refused just now ($13).
        where e.status in ('failed', 'dead') or (e.status = 'applied' and $13::boolean)
    returning status
)
select status from filed
