-- The app's keys of parents, and whether Clerk has deleted them. The lock keeps a row until its children are written, and
-- does not disturb updates of it. Before a deletion, a stronger lock waits for transactions that still write children;
-- later ones find the tombstone.
with lock_timeout as materialized (select set_config('lock_timeout', $2, true)),
locked as materialized (
    select /*<id_column>*/id/*</id_column>*/::text as clerk_id, to_jsonb(/*<key>*/id/*</key>*/)::text as key
    from /*<table>*/public.users/*</table>*/
    where /*<id_column>*/id/*</id_column>*/ = any($1::text[]::/*<id_type>*/text/*</id_type>*/[]) and exists (select from lock_timeout)
    order by /*<id_column>*/id/*</id_column>*/
    /*<lock>*/for key share/*</lock>*/
)
select
    wanted.clerk_id,
    locked.key,
    (clerk_sync.current_identity(wanted.clerk_id)).deleted_at is not null as is_deleted
from unnest($1::text[]) as wanted (clerk_id)
left join locked using (clerk_id)
where (select count(*) from locked) is not null
