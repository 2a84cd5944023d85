-- A step of apply_changes.sql for a table to which not every user can be inserted: a required column has no value, or a
-- value that is written on insert only does not fit. PostgreSQL refuses the row of an INSERT before it looks for a
-- conflict, so existing rows are updated by a statement of their own.
with newest as (select $1::text as clerk_id, 1 as n),
joined as (select clerk_id from newest),
/*<update_first>*//*<found>*//*</found>*/updated as (
    update /*<table>*/public.users/*</table>*/ as app
    set /*<assignments>*/banned = r.banned/*</assignments>*/
    from newest
    join joined using (clerk_id)/*<join_found>*//*</join_found>*/
    cross join lateral jsonb_to_record(/*<user_row>*/($2::jsonb[])[newest.n]/*</user_row>*/) as r (/*<updated_definitions>*/id text, banned boolean/*</updated_definitions>*/)
    where app./*<id_column>*/id/*</id_column>*/ = newest.clerk_id::/*<id_type>*/text/*</id_type>*/
    returning app./*<id_column>*/id/*</id_column>*/ as updated_id/*<updated_row>*//*</updated_row>*/
),/*</update_first>*/
saved as (
    select clerk_id
    from newest
    where true/*<unless_updated>*/ and not exists (
        select from /*<table>*/public.users/*</table>*/ as app
        where app./*<id_column>*/id/*</id_column>*/ = newest.clerk_id::/*<id_type>*/text/*</id_type>*/
    )/*</unless_updated>*/
)
select clerk_id from saved/*<or_updated>*/ union all select updated_id/*<row_columns>*//*</row_columns>*/ from updated/*</or_updated>*/
