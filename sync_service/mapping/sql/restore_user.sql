-- Cancels a deletion while its row exists, and removes its marks with the help of the values before them. The version is
-- reset with the tombstone, so that any later snapshot is newer. The row is locked first: a deletion that already runs
-- ends before, and the row is gone then, or stays.
with locked as materialized (
    select /*<id_column>*/id/*</id_column>*/::text as clerk_id
    from /*<table>*/public.users/*</table>*/
    where /*<id_column>*/id/*</id_column>*/ = $1::text::/*<id_type>*/text/*</id_type>*/
    for update
),
restored as (
    update clerk_sync.identities as known
    set version = 0, tiebreak = '', deleted_at = null, restored_at = now(), changed_at = now()
    from locked
    where known.clerk_id = $1 and known.clerk_id = locked.clerk_id and known.deleted_at is not null
    returning known.clerk_id
),
kept as (
    delete from clerk_sync.deletion_marks as mark
    where mark.clerk_id = $1 and exists (select from restored)
    returning mark.values_before
),
unmarked as (
    update /*<table>*/public.users/*</table>*/
    set /*<unmark>*/id = id/*</unmark>*/
    where /*<id_column>*/id/*</id_column>*/ = $1::text::/*<id_type>*/text/*</id_type>*/ and exists (select from restored)
    returning 1/*<unmarked_key>*//*</unmarked_key>*/
)/*<record_restoration>*//*</record_restoration>*/,
settled as (
    update clerk_sync.events as e
    set status = 'stale', reason = null, next_attempt_at = null, finished_at = now()
    from restored
    where e.clerk_id = restored.clerk_id and e.status in ('failed', 'dead')
)
-- A trigger may keep the mark. The error undoes the whole statement.
select exists (select from restored)
where not exists (select from restored) or exists (select from unmarked) or clerk_sync.raise_row_not_written()
