-- The rows of users as they are now, for notifications. A deleted user has none, also if the mapping keeps the row.
select wanted.clerk_id, app.content, known.is_deleted
from unnest((select $1::text[])) as wanted (clerk_id)
-- `offset 0`, as in apply_changes.sql: one index look-up for each user, at any size of the tables.
left join lateral (
    select to_jsonb(theirs)::text as content
    from /*<table>*/public.users/*</table>*/ as theirs
    where theirs./*<id_column>*/id/*</id_column>*/ = wanted.clerk_id::/*<id_type>*/text/*</id_type>*/
        and theirs./*<id_column>*/id/*</id_column>*/::text = wanted.clerk_id
    offset 0
) as app on true
cross join lateral (
    select exists (select from clerk_sync.recorded_deletions as d where d.clerk_id = wanted.clerk_id) as is_deleted
    offset 0
) as known
