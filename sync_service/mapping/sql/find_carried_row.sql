-- Whether the row with this primary key exists.
select exists (
    select from /*<table>*/public.users/*</table>*/ as written
    cross join json_to_record($1::json) as known (/*<definitions>*/id text/*</definitions>*/)
    where /*<matches>*/written.id = known.id/*</matches>*/
)
