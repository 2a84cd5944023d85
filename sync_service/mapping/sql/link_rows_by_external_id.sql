-- Links existing rows: a row without a Clerk ID gets the ID of the user whose external ID ($2) is its primary key. Only
-- the backend of the application can set a user's external ID. Only unknown users are linked.
with wanted as materialized (  -- first, so that known users cost no look-up in the table
    select w.clerk_id, w.external_id::/*<key_type>*/text/*</key_type>*/ as key
    from
        (select set_config('lock_timeout', $3, true)) as lock_timeout,
        unnest($1::text[], $2::text[]) as w (clerk_id, external_id)
    where not exists (select from clerk_sync.identities as known where known.clerk_id = w.clerk_id)
        and not exists (
            select from /*<table>*/public.users/*</table>*/ as other
            where other./*<id_column>*/id/*</id_column>*/ = w.clerk_id::/*<id_type>*/text/*</id_type>*/
                and other./*<id_column>*/id/*</id_column>*/::text = w.clerk_id
        )
),
-- The identity comes first, as in link_rows_by_email.sql.
claimed as (
    insert into clerk_sync.identities as known (clerk_id, version, tiebreak, created_by)
    select clerk_id, 0, '', $4
    from wanted
    where exists (
        select from /*<table>*/public.users/*</table>*/ as other
        where other./*<key>*/id/*</key>*/ = wanted.key and other./*<id_column>*/id/*</id_column>*/ is null
    )
    order by clerk_id
    on conflict (clerk_id) do nothing
    returning clerk_id
),
-- As in link_rows_by_email.sql.
locked as (
    select claimed.clerk_id, wanted.key/*<row_before>*//*</row_before>*/
    from claimed
    join wanted on wanted.clerk_id = claimed.clerk_id
    join /*<table>*/public.users/*</table>*/ as app
        on app./*<key>*/id/*</key>*/ = wanted.key and app./*<id_column>*/id/*</id_column>*/ is null
    for update of app
),
linked as (
    update /*<table>*/public.users/*</table>*/ as app
    set /*<link>*/id = claimed.clerk_id/*</link>*/
    from locked as claimed
    where app./*<key>*/id/*</key>*/ = claimed.key and app./*<id_column>*/id/*</id_column>*/ is null
    returning app./*<id_column>*/id/*</id_column>*/::text as clerk_id/*<row_after>*//*</row_after>*/
)/*<record_linked>*//*</record_linked>*/
select array(select clerk_id from linked)
where not exists (select from locked where not exists (select from linked where linked.clerk_id = locked.clerk_id))
    or clerk_sync.raise_row_not_written()
