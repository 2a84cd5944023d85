-- Some tables ($1), the tables that refer to them to any depth, and their partitions. `union` drops duplicate rows, so the
-- recursion ends at a cycle.
with recursive below (oid) as (
    select unnest($1::oid[])
    union
    select child.oid
    from below
    cross join lateral (
        select con.conrelid as oid from pg_constraint as con where con.contype = 'f' and con.confrelid = below.oid
        union all
        select part.inhrelid from pg_inherits as part where part.inhparent = below.oid
    ) as child
)
select n.nspname::text as schema, c.relname::text as table
from below
join pg_class as c on c.oid = below.oid
join pg_namespace as n on n.oid = c.relnamespace
order by n.nspname, c.relname
