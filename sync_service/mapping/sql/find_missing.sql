-- Finds the users of Clerk who have no row, without reading a row in JSON. A deleted user needs none.
select input.clerk_id
from unnest((select $1::text[])) as input (clerk_id)
-- `offset 0`, as in apply_changes.sql: one index look-up for each user, at any size of the tables.
where not exists (
        select from /*<table>*/public.users/*</table>*/ as theirs
        where theirs./*<id_column>*/id/*</id_column>*/ = input.clerk_id::/*<id_type>*/text/*</id_type>*/
        offset 0
    )
    and not exists (
        select from clerk_sync.identities as identity
        where identity.clerk_id = input.clerk_id and identity.deleted_at is not null
        offset 0
    )
