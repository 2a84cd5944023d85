-- The application's row of one user, as JSON.
select to_jsonb(app)
from /*<table>*/public.users/*</table>*/ as app
where app./*<id_column>*/id/*</id_column>*/::text = $1
