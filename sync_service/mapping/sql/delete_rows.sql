-- The second step of a deletion: deletes or changes the rows, removes the users' data from the inbox and finishes the
-- events. It is a statement of its own, because only a statement that begins after the tombstone's commit sees the row
-- that the last holder of the identity's lock wrote. It holds no lock on the identity, so that a long cascade does not
-- block other events of the user.
with lock_timeout as materialized (select set_config('lock_timeout', $3, true)),
-- The rows are locked first: a row that another session deletes at the same time is not one that the application kept.
locked as (
    select /*<id_column>*/id/*</id_column>*/::text as clerk_id/*<values_before>*//*</values_before>*//*<doomed_key>*//*</doomed_key>*/
    from /*<table>*/public.users/*</table>*/
    where /*<tombstoned>*/id = any(array(
        select known.clerk_id from clerk_sync.identities as known
        where known.clerk_id = any($1::text[]) and known.deleted_at is not null and exists (select from lock_timeout)
    ))/*</tombstoned>*/
    for update
),
-- The users who are still deleted: an operator may have restored one while the statement waited for a row. A restore
-- locks the row, too, so that none follows before the end of this transaction.
deleted as materialized (
    select clerk_sync.list_deleted($1) as ids where (select count(*) from locked) is not null
),
doomed as (
    select * from locked where clerk_id = any((select ids from deleted)::text[])
)/*<keep>*//*</keep>*/,
gone as (
    /*<delete>*/delete from public.users/*</delete>*/
    where /*<id_column>*/id/*</id_column>*/ = any(array(select clerk_id::/*<id_type>*/text/*</id_type>*/ from doomed))
    returning /*<id_column>*/id/*</id_column>*/::text as clerk_id
)/*<record_deletion>*//*</record_deletion>*/,
-- Its own events are finished, and those of other types. Other deletions of the same user keep their own attempts.
finished as (
    update clerk_sync.events as e
    set payload = null,
        status = case
            when e.status not in ('failed', 'dead') or /*<is_other>*/(e.type = 'user.deleted' and e.id <> all($2))/*</is_other>*/ then e.status
            when e.id = any($2::text[]) then 'applied'
            else 'stale'
        end,
        reason = case when /*<is_other>*/(e.type = 'user.deleted' and e.id <> all($2))/*</is_other>*/ then e.reason end,
        attempts = e.attempts + (e.status in ('failed', 'dead') and e.id = any($2))::integer,
        next_attempt_at = case when /*<is_other>*/(e.type = 'user.deleted' and e.id <> all($2))/*</is_other>*/ then e.next_attempt_at end,
        finished_at = case when /*<is_other>*/(e.type = 'user.deleted' and e.id <> all($2))/*</is_other>*/ then e.finished_at else coalesce(e.finished_at, now()) end
    -- The sessions and memberships of a user are the user's data, too.
    where (e.clerk_id = any((select ids from deleted)::text[]) or e.user_id = any((select ids from deleted)::text[]))
        and (e.payload is not null or e.status in ('failed', 'dead') and not /*<is_other>*/(e.type = 'user.deleted' and e.id <> all($2))/*</is_other>*/)
)
-- A trigger may keep a row: the error undoes the whole statement; the tombstone stays.
select unnest(deleted.ids) as clerk_id
from deleted
where (select count(*) from gone) is not null
    and (
        not exists (select from doomed where not exists (select from gone where gone.clerk_id = doomed.clerk_id))
        or clerk_sync.raise_row_not_written()
    )
    and clerk_sync.forget_carried_rows(deleted.ids)
