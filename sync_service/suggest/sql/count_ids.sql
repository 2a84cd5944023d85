-- Counts for each column in the first rows: values, different values, IDs of Clerk's users, other IDs of Clerk.
select
    /*<number>*/0/*</number>*/ as number,
    array[
        /*<counts>*/array[count(id), count(distinct id::text), count(*) filter (where id::text ~ '^user_'), 0]/*</counts>*/
    ] as counts
from (select /*<columns>*/id/*</columns>*/ from /*<table>*/public.users/*</table>*/ limit 200) as t
