-- Applies many changes at once: joins the identities, saves the rows that won, files the events. One round trip.
-- {table}, {clerk_id}, {columns} and what is made of them come quoted from the mapping.
--
-- `input`, and of it the `newest` of each user, come from changes_of_many.sql or, a sixth cheaper, changes_of_one.sql.
-- All that decides stands here, once for both.
--
-- The rule is sync/decide.py's. The guard stands in ON CONFLICT … WHERE, which looks at the row that it has locked;
-- a look beforehand would be as old as the statement. Everything is sorted, so that all processes lock in one order.
{told}joined as (
    insert into clerk_sync.identities as known (clerk_id, version, tie, deleted_at, created_by, confirmed_at)
    select
        clerk_id, version, tie, case when kind = 'deletion' then now() end, $10,
        -- What is replayed was told when it came; what the app itself says of a user, Clerk never told.
        case $10
            when 'replay' then (select received_at from clerk_sync.events where id = newest.event_id)
            when 'profile' then null
            else now()
        end
    from newest
    order by clerk_id
    on conflict (clerk_id) do update
        set version = excluded.version, tie = excluded.tie, deleted_at = excluded.deleted_at, changed_at = now(),
            confirmed_at = excluded.confirmed_at, address_wanted = false, refetch_wanted = false
        where known.deleted_at is null
            and case
                -- An operator has taken the deletion back: a repetition of it does nothing.
                when excluded.deleted_at is not null then known.kept_at is null
                else (excluded.version, excluded.tie) > (known.version, known.tie)
            end
    returning clerk_id, version, tie, deleted_at
),
{updated}saved as (
    insert into {table} as app ({columns})
    select {values}
    from newest
    join joined using (clerk_id)
    cross join lateral jsonb_to_record({user_row}) as r ({definitions})
    where joined.deleted_at is null{unless_updated}
    order by clerk_id
    on conflict ({clerk_id}) do {conflict}
),
outcome as (
    select
        input.*,
        -- Two contents of one instant: told apart, always in the same way, but only Clerk knows which is right.
        coalesce(
            input.version = known.version and input.tie <> known.tie
                -- Unless Clerk was asked: such a tie is longer (clerk/values.py), and the last half of it is the content.
                and greatest(length(input.tie), length(known.tie)) <= 16,
            false
        ) as same_instant,
        case
            when kind = 'none' then 'ignored'
            when kind = 'deletion' then case when known.kept_at is null then 'applied' else 'stale' end
            -- Applied means: the row shows just this, whether it was written now or before.
            when (input.version, substr(input.tie, greatest(length(input.tie) - 15, 1)))
                = (joined.version, substr(joined.tie, greatest(length(joined.tie) - 15, 1)))
            then 'applied'
            when joined.clerk_id is null
                and (input.version, substr(input.tie, greatest(length(input.tie) - 15, 1)))
                    = (known.version, substr(known.tie, greatest(length(known.tie) - 15, 1)))
            then 'applied'
            else 'stale'
        end as status
    from input
    left join joined using (clerk_id)
    -- One by one, by the index (`offset 0` keeps it so): a plan made while the table was small would read all of it.
    left join lateral (
        select i.version, i.tie, i.kept_at from clerk_sync.identities as i where i.clerk_id = input.clerk_id offset 0
    ) as known on true
),
filed as (
    insert into clerk_sync.events as e (id, type, instance_id, clerk_id, status, payload, finished_at)
    select event_id, type, instance_id, clerk_id, status, {payload}, now()
    from outcome
    where event_id is not null and first
    order by event_id
    on conflict (id) do update
        set status = excluded.status, reason = null, attempts = e.attempts + 1, next_attempt_at = null,
            finished_at = excluded.finished_at
        -- What succeeded stays as it is; what failed is tried again whenever it comes again.
        where e.status in ('failed', 'dead')
    returning id
)
select
    same_instant,
    case
        -- A replay asks what an event comes to, not whether it was there before.
        when outcome.event_id is null or $10 = 'replay' then status
        when filed.id is null then 'duplicate'
        when not first then 'duplicate'
        else status
    end as status
from outcome
left join filed on filed.id = outcome.event_id
order by n
