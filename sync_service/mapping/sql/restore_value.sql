-- Shows a unique value on the user's row again.
update /*<table>*/public.users/*</table>*/ as app
set /*<restore>*/email = r.email/*</restore>*/
from jsonb_to_record($2::jsonb) as r (/*<definition>*/email text/*</definition>*/)
where app./*<id_column>*/id/*</id_column>*/::text = $1
