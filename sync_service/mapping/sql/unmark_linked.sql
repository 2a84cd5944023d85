-- Removes the marks of a deletion from rows that were linked just now ($1), where this service had marked the row of an
-- earlier user. A mark of the application stays: a blocked account is not opened by a new sign-up.
with kept as (
    delete from clerk_sync.deletion_marks as mark
    using /*<table>*/public.users/*</table>*/ as theirs
    where theirs./*<id_column>*/id/*</id_column>*/ = any(array(select unnest($1::text[])::/*<id_type>*/text/*</id_type>*/))
        and mark.app_key = theirs./*<key>*/id/*</key>*/::text
    returning mark.app_key, mark.values_before
),
found as (
    select app./*<id_column>*/id/*</id_column>*/::text as clerk_id/*<row_before>*//*</row_before>*/
    from /*<table>*/public.users/*</table>*/ as app
    where app./*<id_column>*/id/*</id_column>*/ = any(array(select unnest($1::text[])::/*<id_type>*/text/*</id_type>*/))
        and app./*<key>*/id/*</key>*/::text = any(array(select app_key from kept))
    for update
),
changed as (
    update /*<table>*/public.users/*</table>*/ as app
    set /*<unmark>*/id = id/*</unmark>*/
    where app./*<id_column>*/id/*</id_column>*/ = any(array(select clerk_id::/*<id_type>*/text/*</id_type>*/ from found))
    returning app./*<id_column>*/id/*</id_column>*/::text as clerk_id/*<row_after>*//*</row_after>*/
)/*<record>*//*</record>*/
select clerk_id from changed
