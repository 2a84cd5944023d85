-- A sample of keys, for their format.
select /*<column>*/id/*</column>*/::text as key
from /*<table>*/public.users/*</table>*/
where /*<column>*/id/*</column>*/ is not null
limit 200
