-- Keeps the row of a user from being deleted until the end of the transaction. An update waits only if it changes a key
-- or another unique value.
select true
from /*<table>*/public.users/*</table>*/ as app
where app./*<id_column>*/id/*</id_column>*/ = $1 and app./*<id_column>*/id/*</id_column>*/::text = $1::text
for key share
