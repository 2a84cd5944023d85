-- Keeps the row of a user from being deleted until the end of the transaction. Updates of the row are not delayed.
select true
from /*<table>*/public.users/*</table>*/ as app
where app./*<id_column>*/id/*</id_column>*/ = $1 and app./*<id_column>*/id/*</id_column>*/::text = $1::text
for key share
