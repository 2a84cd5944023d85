-- The state of one user, in one round trip over three indexes. The first use of the parameter gives it the type of the
-- column, so that its index serves any type; the text decides, because citext ignores case.
select
    to_jsonb(app)::text as row,
    known.deleted_at is not null as is_deleted,
    known.version is not null as is_known,
    coalesce(known.email_pending, false) as email_pending,
    known.confirmed_at,
    extract(epoch from now() - known.confirmed_at)::float8 as age,
    (select id from clerk_sync.instance) as instance_id
from (select) as always
left join /*<table>*/public.users/*</table>*/ as app
    on app./*<id_column>*/id/*</id_column>*/ = $1 and app./*<id_column>*/id/*</id_column>*/::text = $1::text
left join clerk_sync.identities as known on known.clerk_id = $1::text and known.entity = 'user'
