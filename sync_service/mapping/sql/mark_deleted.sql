-- Marks rows whose deletion is deferred.
with lock_timeout as materialized (select set_config('lock_timeout', $2, true))
update /*<table>*/public.users/*</table>*/
set /*<mark>*/id = id/*</mark>*/
where /*<tombstoned>*/id = any(array(
        select known.clerk_id from clerk_sync.identities as known
        where known.clerk_id = any($1::text[]) and known.deleted_at is not null and exists (select from lock_timeout)
    ))/*</tombstoned>*/
