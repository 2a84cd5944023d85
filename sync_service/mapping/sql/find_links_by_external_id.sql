-- The rows that link_rows_by_external_id.sql would link: of unknown users ($1), by their external IDs ($2).
select wanted.clerk_id, app./*<key>*/id/*</key>*/::text as key
from unnest($1::text[], $2::text[]) as wanted (clerk_id, external_id)
join /*<table>*/public.users/*</table>*/ as app
    on app./*<key>*/id/*</key>*/ = wanted.external_id::/*<key_type>*/text/*</key_type>*/
    and app./*<id_column>*/id/*</id_column>*/ is null
where not exists (select from clerk_sync.identities as known where known.clerk_id = wanted.clerk_id)
order by wanted.clerk_id
