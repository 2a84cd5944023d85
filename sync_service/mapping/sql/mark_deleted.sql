-- Marks rows whose deletion is deferred. The rows are locked first, so that their values before the mark can be kept.
with lock_timeout as materialized (select set_config('lock_timeout', $2, true)),
locked as (
    select /*<id_column>*/id/*</id_column>*/::text as clerk_id/*<values_before>*//*</values_before>*//*<doomed_key>*//*</doomed_key>*/
    from /*<table>*/public.users/*</table>*/
    where /*<tombstoned>*/id = any(array(
        select known.clerk_id from clerk_sync.identities as known
        where known.clerk_id = any($1::text[]) and known.deleted_at is not null and exists (select from lock_timeout)
    ))/*</tombstoned>*/
    for update
),
-- As in delete_rows.sql: an operator may have restored a user while the statement waited for a row.
doomed as (
    select * from locked where clerk_id = any((
        select clerk_sync.list_deleted($1) where (select count(*) from locked) is not null
    )::text[])
)/*<keep>*//*</keep>*/,
gone as (
    update /*<table>*/public.users/*</table>*/
    set /*<mark>*/id = id/*</mark>*/
    where /*<id_column>*/id/*</id_column>*/ = any(array(select clerk_id::/*<id_type>*/text/*</id_type>*/ from doomed))
    returning /*<id_column>*/id/*</id_column>*/::text as clerk_id
)/*<record_mark>*//*</record_mark>*/
select clerk_id from gone
