-- A step of apply_changes.sql for a table to which not every user can be inserted: a required column has no value, or a
-- value that is written on insert only does not fit. PostgreSQL refuses the row of an INSERT before it looks for a
-- conflict, so existing rows are updated by a statement of their own.
with newest as (select $1::text as clerk_id, 1 as n),
joined as (select clerk_id from newest),
/*<update_first>*/-- The rows are compared after their lock, as in the INSERT.
found as (
    select
        newest.clerk_id,
        record_image_ne(row(/*<old_values>*/app.banned/*</old_values>*/), row(/*<new_values>*/r.banned/*</new_values>*/)) as is_changed/*<row_before>*//*</row_before>*/
    from newest
    join joined using (clerk_id)
    join /*<table>*/public.users/*</table>*/ as app
        on app./*<id_column>*/id/*</id_column>*/ = newest.clerk_id::/*<id_type>*/text/*</id_type>*/
    cross join lateral jsonb_to_record(/*<user_row>*/($2::jsonb[])[newest.n]/*</user_row>*/) as r (/*<updated_definitions>*/id text, banned boolean/*</updated_definitions>*/)
    for no key update of app
),
updated as (
    update /*<table>*/public.users/*</table>*/ as app
    set /*<assignments>*/banned = r.banned/*</assignments>*/
    from newest
    join found using (clerk_id)
    cross join lateral jsonb_to_record(/*<user_row>*/($2::jsonb[])[newest.n]/*</user_row>*/) as r (/*<updated_definitions>*/id text, banned boolean/*</updated_definitions>*/)
    where app./*<id_column>*/id/*</id_column>*/ = newest.clerk_id::/*<id_type>*/text/*</id_type>*/ and found.is_changed
    returning app./*<id_column>*/id/*</id_column>*/ as updated_id/*<updated_row>*//*</updated_row>*/
),/*</update_first>*/
saved as (
    select clerk_id
    from newest
    where true/*<unless_updated>*/ and not exists (
        select from /*<table>*/public.users/*</table>*/ as app
        where app./*<id_column>*/id/*</id_column>*/ = newest.clerk_id::/*<id_type>*/text/*</id_type>*/
    )/*</unless_updated>*/
),
unchanged as (
    select '{}'::text[]/*<or_found>*/ || array(select clerk_id from found where not is_changed)/*</or_found>*/ as ids
)
select clerk_id from saved/*<or_updated>*/ union all select updated_id/*<row_columns>*//*</row_columns>*/ from updated/*</or_updated>*/
