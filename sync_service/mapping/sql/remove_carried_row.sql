-- Deletes one row by its primary key.
delete from /*<table>*/public.users/*</table>*/ as written
using json_to_record($1::json) as known (/*<definitions>*/id text/*</definitions>*/)
where /*<matches>*/written.id = known.id/*</matches>*/
