-- The app's tables with their columns and the foreign keys from them; one row per table.
select
    n.nspname::text as schema,
    c.relname::text as name,
    has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT') as readable,
    (select coalesce(json_agg(json_build_object(
            'name', a.attname,
            'category', coalesce(b.typcategory, t.typcategory),
            'length', case when coalesce(b.typname, t.typname) in ('varchar', 'bpchar')
                then nullif(greatest(a.atttypmod, t.typtypmod), -1) - 4 end,
            'has_default', a.atthasdef or a.attidentity <> '',
            'not_null', a.attnotnull,
            'unique', exists (select from pg_index as i
                where i.indrelid = c.oid and i.indisunique and i.indisvalid
                    and (i.indpred is null or pg_get_expr(i.indpred, c.oid) = format('(%I IS NOT NULL)', a.attname))
                    and i.indnkeyatts = 1 and i.indkey[0] = a.attnum),
            'primary', exists (select from pg_index as i
                where i.indrelid = c.oid and i.indisprimary and i.indnkeyatts = 1 and i.indkey[0] = a.attnum)
        ) order by a.attnum), '[]')
        from pg_attribute as a
        join pg_type as t on t.oid = a.atttypid
        left join pg_type as b on b.oid = t.typbasetype
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
    (select coalesce(json_agg(json_build_object(
            'columns', (select json_agg(a.attname order by k.n)
                from unnest(con.conkey) with ordinality as k (attnum, n)
                join pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum),
            'parent_schema', pn.nspname,
            'parent_table', p.relname,
            'on_delete', con.confdeltype
        ) order by con.conname), '[]')
        from pg_constraint as con
        join pg_class as p on p.oid = con.confrelid
        join pg_namespace as pn on pn.oid = p.relnamespace
        where con.conrelid = c.oid and con.contype = 'f' and con.conparentid = 0) as references
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition
    and n.nspname !~ '^(pg_|_)' and n.nspname not in (
        'information_schema', 'clerk_sync', 'auth', 'storage', 'realtime', 'vault', 'extensions', 'graphql', 'cron',
        'supabase_functions', 'supabase_migrations', 'hdb_catalog', 'net'
    )
order by 1, 2
