-- Links existing rows: a row that has a user's verified email and no Clerk ID gets the user's ID. Only unknown users are
-- linked, and only where exactly one row has the email: of two rows, the right one cannot be known.
with wanted as materialized (  -- first, so that known users cost no scan of the table
    select w.clerk_id, w.email
    from
        (select set_config('lock_timeout', $3, true)) as lock_timeout,
        unnest($1::text[], $2::text[]) as w (clerk_id, email)
    where not exists (select from clerk_sync.identities as known where known.clerk_id = w.clerk_id)
        and not exists (
            select from /*<table>*/public.users/*</table>*/ as other
            where other./*<id_column>*/id/*</id_column>*/::text = w.clerk_id
        )
)
update /*<table>*/public.users/*</table>*/ as app
set /*<id_column>*/id/*</id_column>*/ = wanted.clerk_id
from wanted
where app./*<id_column>*/id/*</id_column>*/ is null
    and lower(app./*<link_column>*/email/*</link_column>*/::text) = lower(wanted.email)
    and (
        select count(*)
        from /*<table>*/public.users/*</table>*/ as other
        where lower(other./*<link_column>*/email/*</link_column>*/::text) = lower(wanted.email)
    ) = 1
