-- The application's row of one user, as JSON. The parameter takes the type of the column, so that its index serves any
-- type; the text decides, because citext ignores case.
select to_jsonb(app)
from /*<table>*/public.users/*</table>*/ as app
where app./*<id_column>*/id/*</id_column>*/ = $1 and app./*<id_column>*/id/*</id_column>*/::text = $1::text
