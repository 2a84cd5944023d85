-- The second step of a deletion: deletes or changes the rows, removes the users' data from the inbox and finishes the
-- events. It is a statement of its own, because only a statement that begins after the tombstone's commit sees the row
-- that the last holder of the identity's lock wrote. It holds no lock on the identity, so that a long cascade does not
-- block other events of the user.
with lock_timeout as materialized (select set_config('lock_timeout', $3, true)),
-- The rows are locked first: a row that another session deletes at the same time is not one that the application kept.
doomed as (
    select /*<id_column>*/id/*</id_column>*/::text as clerk_id/*<values_before>*//*</values_before>*//*<doomed_key>*//*</doomed_key>*/
    from /*<table>*/public.users/*</table>*/
    where /*<tombstoned>*/id = any(array(
        select known.clerk_id from clerk_sync.identities as known
        where known.clerk_id = any($1::text[]) and known.deleted_at is not null and exists (select from lock_timeout)
    ))/*</tombstoned>*/
    for update
)/*<keep>*//*</keep>*/,
gone as (
    /*<delete>*/delete from public.users/*</delete>*/
    where /*<id_column>*/id/*</id_column>*/ = any(array(select clerk_id::/*<id_type>*/text/*</id_type>*/ from doomed))
    returning /*<id_column>*/id/*</id_column>*/::text as clerk_id
)/*<record_deletion>*//*</record_deletion>*/,
-- Its own events are finished; other deletions of the same user keep their own attempts.
concerned as (
    select
        e.id,
        e.id = any($2::text[]) as is_own,
        e.type = /*<deletion_type>*/'user.deleted'/*</deletion_type>*/ as is_deletion,
        e.status in ('failed', 'dead') as is_waiting
    from clerk_sync.events as e
    -- Read after the rows, for which the statement may have waited: an operator may have restored the user meanwhile.
    where (select count(*) from gone) is not null
        -- The sessions and memberships of a user are the user's data, too.
        and (e.clerk_id = any($1) or e.user_id = any($1))
        and (clerk_sync.current_identity(case when e.clerk_id = any($1) then e.clerk_id else e.user_id end)).deleted_at
            is not null
),
finished as (
    update clerk_sync.events as e
    set payload = null,
        status = case
            when is_waiting and is_own then 'applied' when is_waiting and not is_deletion then 'stale' else e.status
        end,
        reason = case when is_own or not is_deletion then null else e.reason end,
        attempts = e.attempts + (is_waiting and is_own)::integer,
        next_attempt_at = case when is_deletion and not is_own then e.next_attempt_at end,
        finished_at = case when is_deletion and not is_own then e.finished_at else coalesce(e.finished_at, now()) end
    from concerned
    where e.id = concerned.id and (e.payload is not null or (is_waiting and (is_own or not is_deletion)))
)
-- The users who are still deleted. A trigger may keep a row: the error undoes the whole statement; the tombstone stays.
select wanted.clerk_id
from unnest($1::text[]) as wanted (clerk_id)
where (select count(*) from gone) is not null
    and (clerk_sync.current_identity(wanted.clerk_id)).deleted_at is not null
    and (
        not exists (select from doomed where not exists (select from gone where gone.clerk_id = doomed.clerk_id))
        or clerk_sync.raise_row_not_written()
    )
    and clerk_sync.forget_carried_rows(wanted.clerk_id)
