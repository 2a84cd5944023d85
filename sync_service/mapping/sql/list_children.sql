-- The rows that belong to deleted parents. $1 has the Clerk IDs of the parents, or their keys in the app.
select child./*<id_column>*/id/*</id_column>*/::text as clerk_id
from /*<table>*/public.users/*</table>*/ as child
where child./*<link>*/id/*</link>*/ = any($1::text[]::/*<link_type>*/text/*</link_type>*/[])
    and child./*<id_column>*/id/*</id_column>*/ is not null
    and not exists (
        select from clerk_sync.identities as known
        where known.clerk_id = child./*<id_column>*/id/*</id_column>*/::text and known.deleted_at is not null
    )
limit $2
