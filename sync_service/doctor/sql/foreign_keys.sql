-- The foreign keys below a table ($1), to any depth. `union` drops duplicate rows, so the recursion ends at a cycle.
with recursive below (oid) as (
    select $1::oid
    union
    select con.conrelid
    from pg_constraint as con
    join below on con.confrelid = below.oid
    where con.contype = 'f' and con.conparentid = 0
)
select
    con.conname::text as name,
    con.conrelid::bigint as child_oid,
    con.confrelid::bigint as parent_oid,
    cn.nspname::text as schema,
    c.relname::text as table,
    pn.nspname::text as parent_schema,
    p.relname::text as parent_table,
    c.relkind = 'p' as partitioned,
    con.confdeltype::text as on_delete,
    con.convalidated as validated,
    exists (select from pg_attribute as a
        where a.attrelid = con.conrelid and a.attnum = any(con.conkey) and a.attnotnull) as required,
    (select array_agg(a.attname::text order by k.n)
        from unnest(con.conkey) with ordinality as k (attnum, n)
        join pg_attribute as a on a.attrelid = con.conrelid and a.attnum = k.attnum) as columns,
    (select array_agg(a.attname::text order by k.n)
        from unnest(con.confkey) with ordinality as k (attnum, n)
        join pg_attribute as a on a.attrelid = con.confrelid and a.attnum = k.attnum) as parent_columns,
    -- The index begins with the referencing columns, in any order. A partial index that omits only nulls also serves.
    exists (select from pg_index as i
        where i.indrelid = con.conrelid and i.indisvalid
            and (select array_agg(x order by x)
                from unnest((i.indkey::smallint[])[0:cardinality(con.conkey) - 1]) as x)
                = (select array_agg(x order by x) from unnest(con.conkey) as x)
            and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) = (
                select '(' || quote_ident(a.attname) || ' IS NOT NULL)' from pg_attribute as a
                where a.attrelid = con.conrelid and a.attnum = con.conkey[1]))) as indexed,
    (select coalesce(array_agg(pg_get_indexdef(i.indexrelid) order by i.indexrelid), '{}')
        from pg_index as i
        where i.indrelid = con.conrelid and i.indkey::smallint[] && con.conkey) as indexes,
    (select coalesce(sum(greatest(l.reltuples, 0)), 0)::bigint
        from pg_class as l
        where l.relkind = 'r' and (l.oid = c.oid or l.oid in (select t.relid from pg_partition_tree(c.oid) as t))
    ) as estimated_rows
from pg_constraint as con
join below on con.confrelid = below.oid
join pg_class as c on c.oid = con.conrelid
join pg_namespace as cn on cn.oid = c.relnamespace
join pg_class as p on p.oid = con.confrelid
join pg_namespace as pn on pn.oid = p.relnamespace
where con.contype = 'f' and con.conparentid = 0
order by cn.nspname, c.relname, con.conname
