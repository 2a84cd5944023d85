-- Removes the marks of a deletion from rows that were linked just now ($1), where this service had marked the row of an
-- earlier user. A mark of the application stays: a blocked account is not opened by a new sign-up.
with kept as (
    delete from clerk_sync.deletion_marks as mark
    using /*<table>*/public.users/*</table>*/ as theirs
    where theirs./*<id_column>*/id/*</id_column>*/ = any(array(select unnest($1::text[])::/*<id_type>*/text/*</id_type>*/))
        and mark.app_key = theirs./*<key>*/id/*</key>*/::text
    returning mark.app_key, mark.values_before
)
update /*<table>*/public.users/*</table>*/
set /*<unmark>*/id = id/*</unmark>*/
where /*<id_column>*/id/*</id_column>*/ = any(array(select unnest($1::text[])::/*<id_type>*/text/*</id_type>*/))
    and /*<key>*/id/*</key>*/::text = any(array(select app_key from kept))
