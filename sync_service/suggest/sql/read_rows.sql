-- Facts about the columns of a table in a sample of its rows: a JSON object for each column.
with sample as materialized (
    select /*<columns>*/email_verified/*</columns>*/ from /*<table>*/public.users/*</table>*/ limit 10000
)
select
    count(*) as rows,
    /*<facts>*/json_build_object('values', count(email_verified), 'later', 0, 'labels', coalesce((
        select json_object_agg(label, n) from (
            select email_verified::text as label, count(*) as n
            from sample where email_verified is not null group by 1 order by 2 desc limit 20
        ) as frequent
    ), '{}'))/*</facts>*/
from sample
