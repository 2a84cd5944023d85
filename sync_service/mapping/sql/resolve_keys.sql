-- The application's keys of many users. Each is JSON, so that a number, a uuid and a text keep their type.
select wanted.clerk_id, app.key::text as key, known.deleted
-- The sub-select and `offset 0`, as in apply_changes.sql: one index look-up for each ID, at any size of the tables.
from unnest((select $1::text[])) as wanted (clerk_id)
left join lateral (
    select to_jsonb(theirs./*<key>*/id/*</key>*/) as key
    from /*<table>*/public.users/*</table>*/ as theirs
    where theirs./*<id_column>*/id/*</id_column>*/ = wanted.clerk_id::/*<id_type>*/text/*</id_type>*/
        and theirs./*<id_column>*/id/*</id_column>*/::text = wanted.clerk_id
    offset 0
) as app on true
left join lateral (
    select identity.deleted_at is not null as deleted
    from clerk_sync.identities as identity
    where identity.clerk_id = wanted.clerk_id
    offset 0
) as known on true
