-- Applies many snapshots in one round trip: updates the identities, saves the rows that won, files the events.
-- The text of each gap is a default, which mapping/queries.py replaces (postgres/sql.py explains gaps).
--
-- The rule is tests/reference_model.py's. The guard is in ON CONFLICT … WHERE, which reads the row that it has locked;
-- a SELECT beforehand would see the older snapshot of the statement. All inserts are sorted by ID, so that concurrent
-- processes lock rows in one order.
with /*<input>*/input as (
    select i.*, row_number() over (partition by event_id order by n) = 1 as first
    from
        -- The lock timeout holds for this transaction only; a pooler would lose a setting of the session.
        (select set_config('lock_timeout', $11, true), set_config('clerk_sync.unchanged', '', true)) as settings,
        unnest(
            -- Sub-selects hide the arrays from the planner. A generic plan then costs no more than a custom one, so
            -- PostgreSQL keeps it after five executions; planning takes longer than the statement itself.
            (select $1::text[]), (select $2::text[]), (select $3::text[]), (select $4::text[]), (select $5::text[]),
            (select $6::bigint[]), (select $7::bytea[])
        ) with ordinality as i (event_id, type, instance_id, clerk_id, kind, version, tiebreak, n)
),
newest as (
    select distinct on (clerk_id) *
    from input
    where kind = 'snapshot'
    order by clerk_id, version desc, tiebreak desc
)/*</input>*/,
joined as (
    insert into clerk_sync.identities as known (clerk_id, version, tiebreak, created_by, confirmed_at/*<entity_column>*/, entity/*</entity_column>*/)
    select
        clerk_id, version, tiebreak, $10,
        -- Clerk confirmed a replayed event when it arrived, and never confirmed a profile that the application sent.
        case $10
            when 'replay' then (select received_at from clerk_sync.events where id = newest.event_id)
            when 'profile' then null
            else now()
        end/*<entity>*/, 'user'/*</entity>*/
    from newest
    order by clerk_id
    on conflict (clerk_id) do update
        set version = excluded.version, tiebreak = excluded.tiebreak, changed_at = now(),
            confirmed_at = excluded.confirmed_at, email_pending = false,
            -- Two contents of one millisecond: the tiebreak chooses one of them, and only Clerk knows the right one.
            -- A tiebreak longer than a digest comes from Clerk's API (clerk/change.py), which needs no second request.
            refetch_pending = /*<can_refetch>*/true/*</can_refetch>*/ and excluded.version = known.version and excluded.tiebreak <> known.tiebreak
                and greatest(length(excluded.tiebreak), length(known.tiebreak)) <= 16
        where known.deleted_at is null
            and (
                (excluded.version, excluded.tiebreak) > (known.version, known.tiebreak)
                -- Clerk's API has the current state. Its response also replaces another content of the same time, and
                -- it is written again if the row lacks a value.
                or (
                    excluded.version = known.version
                    and length(excluded.tiebreak) > 16
                    and (excluded.tiebreak <> known.tiebreak or known.email_pending)
                )
                -- A row that the application removed or changed, or that a backup brought back with an older content, is
                -- written again by the same content, whose digest is in the last 16 bytes.
                or (
                    (excluded.version, substr(excluded.tiebreak, greatest(length(excluded.tiebreak) - 15, 1)))
                        = (known.version, substr(known.tiebreak, greatest(length(known.tiebreak) - 15, 1)))
                    and not exists (
                        select from newest
                        cross join lateral jsonb_to_record(/*<user_row>*/($9::jsonb[])[newest.n]/*</user_row>*/)
                            as r (/*<updated_definitions>*/id text, banned boolean/*</updated_definitions>*/)
                        join /*<table>*/public.users/*</table>*/ as theirs
                            on theirs./*<id_column>*/id/*</id_column>*/ = newest.clerk_id::/*<id_type>*/text/*</id_type>*/
                        where newest.clerk_id = excluded.clerk_id
                            -- A row without its email waits for it. The type json has no operator of its own.
                            and (known.email_pending or /*<shows_content>*/to_jsonb(row(theirs.banned)) = to_jsonb(row(r.banned))/*</shows_content>*/)
                        offset 0
                    )
                )
                -- A login has the current state and writes a missing row in any case. `offset 0` keeps one index look-up.
                -- The sub-selects show the state before this statement waited for its lock. If another transaction has
                -- changed the identity meanwhile, it may have written the row, too, and its newer version stays.
                or (
                    $10 not in ('webhook', 'replay')
                    and not exists (
                        select from /*<table>*/public.users/*</table>*/ as theirs
                        where theirs./*<id_column>*/id/*</id_column>*/ = excluded.clerk_id::/*<id_type>*/text/*</id_type>*/
                        offset 0
                    )
                    and exists (
                        select from clerk_sync.identities as seen
                        where seen.clerk_id = excluded.clerk_id and seen.xmin = known.xmin
                        offset 0
                    )
                )
            )
    returning clerk_id, version, tiebreak, refetch_pending/*<is_new>*//*</is_new>*/
),
/*<update_first>*//*</update_first>*/
saved as (
    insert into /*<table>*/public.users/*</table>*/ as app (/*<columns>*/id, email_verified, banned, locked, public_metadata/*</columns>*/)
    select /*<values>*/r.id, r.email_verified, r.banned, r.locked, r.public_metadata/*</values>*/
    from newest
    join joined using (clerk_id)
    -- The long arrays are read by index where they are written. Carried through each step, copying them was a tenth of
    -- PostgreSQL's work.
    cross join lateral jsonb_to_record(/*<user_row>*/($9::jsonb[])[newest.n]/*</user_row>*/)
        as r (/*<definitions>*/id text, email_verified boolean, banned boolean, locked boolean, public_metadata jsonb/*</definitions>*/)
    where true/*<unless_updated>*//*</unless_updated>*/
    order by clerk_id
    -- The condition lets a unique index that leaves out null serve, too.
    on conflict (/*<id_column>*/id/*</id_column>*/) where /*<id_column>*/id/*</id_column>*/ is not null do update
        set /*<updates>*/banned = excluded.banned/*</updates>*/
        -- A row that shows the values already is not written, so no trigger of the app fires. It is compared after its
        -- lock, and by its bytes: two values that are equal for their type may differ in case or scale.
        where
            case
                when record_image_ne(row(/*<old_values>*/app.banned/*</old_values>*/), row(/*<new_values>*/excluded.banned/*</new_values>*/))
                    then true
                else set_config(
                    'clerk_sync.unchanged',
                    concat(current_setting('clerk_sync.unchanged', true), app./*<id_column>*/id/*</id_column>*/::text, ' '), true
                ) is null
            end/*<remember>*//*</remember>*/
    returning app./*<id_column>*/id/*</id_column>*/ as saved_id/*<saved_row>*//*</saved_row>*/
),
-- The rows that were left as they are. RETURNING does not list them.
unchanged as (
    select string_to_array(case when count(*) >= 0 then current_setting('clerk_sync.unchanged', true) end, ' ')/*<or_found>*//*</or_found>*/ as ids
    from saved
),
-- The rows that PostgreSQL wrote. A trigger may suppress a row, or give it another key.
written as (
    select saved_id/*<row_columns>*//*</row_columns>*/ from saved/*<or_updated>*//*</or_updated>*/
)/*<record_written>*//*</record_written>*//*<wake_children>*/,
-- Events that wait for this parent are due now. One that another transaction handles is left out.
woken as (
    update clerk_sync.events as e
    set next_attempt_at = now()
    where e.id = any(array(
        select waiting.id
        from joined
        join clerk_sync.events as waiting on waiting.waiting_for = joined.clerk_id and waiting.status = 'failed'
        order by waiting.id
        for update of waiting skip locked
    ))
    returning e.id
)/*</wake_children>*/,
outcome as (
    select
        input.*,
        coalesce(joined.refetch_pending, false) or coalesce(
            /*<can_refetch>*/true/*</can_refetch>*/ and input.version = latest.version and input.tiebreak <> latest.tiebreak
                and greatest(length(input.tiebreak), length(latest.tiebreak)) <= 16,
            false
        ) as same_instant,
        case
            when kind = 'none' then 'ignored'
            -- The parent is deleted.
            when kind = 'orphan' then 'stale'
            -- Applied: the row shows exactly this content, written now or before. The last 16 bytes are its digest.
            when (input.version, substr(input.tiebreak, greatest(length(input.tiebreak) - 15, 1)))
                = (latest.version, substr(latest.tiebreak, greatest(length(latest.tiebreak) - 15, 1)))
            then 'applied'
            else 'stale'
        end as status,
        kind = 'orphan' or latest.deleted_at is not null as is_deleted
    from input
    left join joined using (clerk_id)
    -- Another transaction may have changed the identity after this statement's snapshot and before its lock.
    left join lateral (
        select i.version, i.tiebreak, i.deleted_at
        from clerk_sync.current_identity(input.clerk_id) as i
        where joined.clerk_id is null and input.kind = 'snapshot'
        offset 0
    ) as known on true
    cross join lateral (
        select
            coalesce(joined.version, known.version) as version,
            coalesce(joined.tiebreak, known.tiebreak) as tiebreak,
            known.deleted_at
    ) as latest
),
filed as (
    insert into clerk_sync.events as e (id, type, instance_id, clerk_id, status, payload, finished_at/*<owner_column>*/, user_id/*</owner_column>*/)
    select
        event_id, type, instance_id, clerk_id, status,
        -- Of a deleted user no data is kept.
        case when not is_deleted then /*<payload>*/($8::jsonb[])[n]/*</payload>*/ end,
        now()/*<owner>*/, ($12::text[])[n]/*</owner>*/
    from outcome
    where event_id is not null and first
    order by event_id
    on conflict (id) do update
        set status = excluded.status, reason = null, attempts = e.attempts + 1, next_attempt_at = null,
            finished_at = excluded.finished_at, payload = case when excluded.payload is not null then e.payload end
        -- A finished event stays as it is; a failed one is tried again with each delivery.
        where e.status in ('failed', 'dead')
    returning id
)
select
    same_instant,
    /*<has_woken>*/exists (select from woken)/*</has_woken>*/ as has_woken,
    case
        -- A replay reports the outcome again instead of `duplicate`.
        when outcome.event_id is null or $10 = 'replay' then status
        when filed.id is null or not first then 'duplicate'
        else status
    end as status
from outcome
left join filed on filed.id = outcome.event_id
-- The error undoes the whole statement, so that a version is known only if its row is written.
where not exists (
        select from joined
        where not exists (select from written where saved_id = clerk_id::/*<id_type>*/text/*</id_type>*/)
            and clerk_id <> all((select ids from unchanged)::text[])
    )
    or clerk_sync.raise_row_not_written()
order by n
