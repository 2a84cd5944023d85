-- Takes a unique value off a row. The condition names the value: the row may have another one since it was read.
update /*<table>*/public.users/*</table>*/
set /*<release>*/email = null/*</release>*/
where /*<id_column>*/id/*</id_column>*/::text = $1 and /*<column>*/email/*</column>*/::text = $2
