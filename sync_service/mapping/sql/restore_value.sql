-- Shows a unique value on the user's row again.
with found as (
    select app./*<id_column>*/id/*</id_column>*/::text as clerk_id/*<row_before>*//*</row_before>*/
    from /*<table>*/public.users/*</table>*/ as app
    where app./*<id_column>*/id/*</id_column>*/ = $1::text::/*<id_type>*/text/*</id_type>*/
        and app./*<id_column>*/id/*</id_column>*/::text = $1
    for update
),
changed as (
    update /*<table>*/public.users/*</table>*/ as app
    set /*<restore>*/email = r.email/*</restore>*/
    from jsonb_to_record($2::jsonb) as r (/*<definition>*/email text/*</definition>*/)
    where app./*<id_column>*/id/*</id_column>*/ = $1::text::/*<id_type>*/text/*</id_type>*/ and exists (select from found)
    returning app./*<id_column>*/id/*</id_column>*/::text as clerk_id/*<row_after>*//*</row_after>*/
)/*<record>*//*</record>*/
select count(*) > 0 from changed
