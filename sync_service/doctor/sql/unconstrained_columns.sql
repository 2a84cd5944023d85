-- Columns of the app that could hold a key (text, integer, uuid) and have no foreign key; $1 is the users table.
-- Schemas of platforms and extensions are excluded, unless one of them contains the users table.
select
    n.nspname::text as schema,
    c.relname::text as table,
    c.relkind = 'p' as partitioned,
    a.attname::text as name,
    format_type(a.atttypid, a.atttypmod) as type,
    t.typcategory::text as category,
    coalesce(b.typname, t.typname)::text as base,
    case when coalesce(b.typname, t.typname) in ('varchar', 'bpchar')
        then nullif(greatest(a.atttypmod, t.typtypmod), -1) - 4 end as length,
    exists (select from pg_index as i
        where i.indrelid = c.oid and i.indisvalid and i.indpred is null and i.indkey[0] = a.attnum) as indexed,
    -- A foreign key of another column in this table refers to the users table and decides when rows are deleted.
    exists (select from pg_constraint as con
        where con.conrelid = c.oid and con.contype = 'f' and con.confrelid = $1::oid) as already_referenced
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type as t on t.oid = a.atttypid
left join pg_type as b on t.typtype = 'd' and b.oid = t.typbasetype
where c.relkind in ('r', 'p') and not c.relispartition and c.oid <> $1::oid
    and (t.typcategory = 'S' or coalesce(b.typname, t.typname) in ('int2', 'int4', 'int8', 'uuid'))
    and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'clerk_sync')
    and (n.oid = (select relnamespace from pg_class where oid = $1::oid) or n.nspname not in (
        'auth', 'cron', 'extensions', 'graphql', 'net', 'pgsodium', 'realtime', 'storage', 'supabase_functions',
        'supabase_migrations', 'vault'))
    and has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT')
    and not exists (select from pg_constraint as con
        where con.conrelid = c.oid and con.contype = 'f' and a.attnum = any(con.conkey))
order by n.nspname, c.relname, a.attnum
