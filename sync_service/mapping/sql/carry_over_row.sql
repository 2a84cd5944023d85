-- Inserts one row of data from before sign-up. The user's key and Clerk ID come from the users table, and each value
-- passes through the type of its column, as in any INSERT. The result is the primary key of the row.
insert into /*<table>*/public.users/*</table>*/ as written (/*<columns>*/id, email/*</columns>*/)
select /*<values>*/app.id, given.email/*</values>*/
from /*<users>*/public.users/*</users>*/ as app
cross join json_to_record($2::json) as given (/*<definitions>*/email text/*</definitions>*/)
where app./*<id_column>*/id/*</id_column>*/ = $1 and app./*<id_column>*/id/*</id_column>*/::text = $1::text
returning /*<key>*/jsonb_build_object('id', written.id)/*</key>*/::text as key
