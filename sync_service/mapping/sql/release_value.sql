-- Takes a unique value off a row. The condition names the value: the row may have another one since it was read.
with found as (
    select app./*<id_column>*/id/*</id_column>*/::text as clerk_id/*<row_before>*//*</row_before>*/
    from /*<table>*/public.users/*</table>*/ as app
    where app./*<id_column>*/id/*</id_column>*/ = $1::text::/*<id_type>*/text/*</id_type>*/
        and app./*<id_column>*/id/*</id_column>*/::text = $1 and app./*<column>*/email/*</column>*/::text = $2
    for update
),
changed as (
    update /*<table>*/public.users/*</table>*/ as app
    set /*<release>*/email = null/*</release>*/
    where app./*<id_column>*/id/*</id_column>*/ = $1::text::/*<id_type>*/text/*</id_type>*/ and exists (select from found)
    returning app./*<id_column>*/id/*</id_column>*/::text as clerk_id/*<row_after>*//*</row_after>*/
)/*<record>*//*</record>*/
select count(*) > 0 from changed
