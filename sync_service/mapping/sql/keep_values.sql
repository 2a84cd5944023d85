-- Steps of mark_deleted.sql and delete_rows.sql for marks that replace a value, such as a status: the values before the
-- first mark are kept until the user is restored. With the row, or after its data is anonymous, they go too.
with doomed as (
    select id as clerk_id/*<values_before>*/, /*<key>*/id/*</key>*/::text as app_key, /*<kept_values>*/'{}'::jsonb/*</kept_values>*/ as values_before/*</values_before>*/
    from public.users
)/*<keep>*/,
kept as (
    insert into clerk_sync.deletion_marks (clerk_id, app_key, values_before)
    select clerk_id, app_key, values_before from doomed
    on conflict (clerk_id) do nothing
)/*</keep>*//*<forget>*/,
forgotten as (
    delete from clerk_sync.deletion_marks
    where clerk_id = any(array(select clerk_id from doomed))
)/*</forget>*/
select from doomed
