-- The Clerk IDs of the rows with an email. The parameter takes the type of the column, so that its index serves.
select app./*<id_column>*/id/*</id_column>*/::text as clerk_id
from /*<table>*/public.users/*</table>*/ as app
where /*<matches>*/app.email = $1 or app.email = $2/*</matches>*/
limit 20
