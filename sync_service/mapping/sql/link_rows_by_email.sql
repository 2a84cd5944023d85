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
            where other./*<id_column>*/id/*</id_column>*/ = w.clerk_id::/*<id_type>*/text/*</id_type>*/
                and other./*<id_column>*/id/*</id_column>*/::text = w.clerk_id
        )
),
-- The second comparison folds only ASCII letters. The first one, which the index knows, also folds the Kelvin sign to k.
candidate as materialized (
    select wanted.clerk_id, wanted.email
    from wanted
    join /*<table>*/public.users/*</table>*/ as other
        on lower(other./*<link_column>*/email/*</link_column>*/::text) = lower(wanted.email)
        and lower(other./*<link_column>*/email/*</link_column>*/::text collate pg_catalog."C")
            = lower(wanted.email collate pg_catalog."C")
    group by wanted.clerk_id, wanted.email
    having count(*) = 1
),
-- The identity comes first. A deletion at the same time has left its tombstone here, or it waits for this transaction
-- and then finds the linked row.
claimed as (
    insert into clerk_sync.identities as known (clerk_id, version, tiebreak, created_by)
    select clerk_id, 0, '', $4 from candidate order by clerk_id
    on conflict (clerk_id) do nothing
    returning clerk_id
),
-- The rows are locked first: a row that another session has linked or changed is not one that a trigger kept.
locked as (
    select claimed.clerk_id/*<row_before>*//*</row_before>*/
    from claimed
    join candidate on candidate.clerk_id = claimed.clerk_id
    join /*<table>*/public.users/*</table>*/ as app
        on app./*<id_column>*/id/*</id_column>*/ is null
        and lower(app./*<link_column>*/email/*</link_column>*/::text) = lower(candidate.email)
        and lower(app./*<link_column>*/email/*</link_column>*/::text collate pg_catalog."C")
            = lower(candidate.email collate pg_catalog."C")
    for update of app
),
linked as (
    update /*<table>*/public.users/*</table>*/ as app
    set /*<link>*/id = claimed.clerk_id/*</link>*/
    from locked as claimed
    join candidate on candidate.clerk_id = claimed.clerk_id
    where app./*<id_column>*/id/*</id_column>*/ is null
        and lower(app./*<link_column>*/email/*</link_column>*/::text) = lower(candidate.email)
        and lower(app./*<link_column>*/email/*</link_column>*/::text collate pg_catalog."C")
            = lower(candidate.email collate pg_catalog."C")
    returning app./*<id_column>*/id/*</id_column>*/::text as clerk_id/*<row_after>*//*</row_after>*/
)/*<record_linked>*//*</record_linked>*/
-- A trigger may keep a row without its ID: the error undoes the whole statement.
select array(select clerk_id from linked)
where not exists (select from locked where not exists (select from linked where linked.clerk_id = locked.clerk_id))
    or clerk_sync.raise_row_not_written()
