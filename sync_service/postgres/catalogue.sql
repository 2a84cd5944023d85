-- A table as PostgreSQL knows it, in one row; none if there is no such table.
-- https://www.postgresql.org/docs/current/catalogs.html
select
    n.nspname as schema,
    c.relname as name,
    c.oid::bigint as oid,
    c.relkind::text as kind,
    row_security_active(c.oid) as row_security,
    (select coalesce(json_agg(p), '[]') from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as p
        where has_table_privilege(c.oid, p) and has_schema_privilege(n.oid, 'USAGE')) as privileges,
    (select coalesce(json_agg(t.tgname order by t.tgname), '[]') from pg_trigger as t
        where t.tgrelid = c.oid and not t.tgisinternal) as triggers,
    (select coalesce(json_agg(json_build_object(
            'name', a.attname,
            'type', format_type(a.atttypid, a.atttypmod),
            'base', coalesce(b.typname, t.typname),
            'category', t.typcategory,
            'length', case when coalesce(b.typname, t.typname) in ('varchar', 'bpchar')
                then nullif(greatest(a.atttypmod, t.typtypmod), -1) - 4 end,
            'not_null', a.attnotnull or t.typnotnull,
            'has_default', a.atthasdef or a.attidentity <> '' or t.typdefault is not null,
            'generated', a.attgenerated <> '' or a.attidentity = 'a',
            'labels', (select coalesce(json_agg(e.enumlabel order by e.enumsortorder), '[]')
                from pg_enum as e where e.enumtypid = coalesce(b.oid, t.oid))
        ) order by a.attnum), '[]')
        from pg_attribute as a
        join pg_type as t on t.oid = a.atttypid
        left join pg_type as b on t.typtype = 'd' and b.oid = t.typbasetype
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
    (select coalesce(json_agg(json_build_object(
            'name', ic.relname,
            'unique', i.indisunique and i.indimmediate,
            'primary', i.indisprimary,
            'valid', i.indisvalid,
            'partial', i.indpred is not null,
            -- A column's name as it is, an expression as PostgreSQL prints it.
            'keys', (select json_agg(coalesce(a.attname, pg_get_indexdef(i.indexrelid, k.n::integer, true)) order by k.n)
                from unnest(i.indkey::smallint[]) with ordinality as k (attnum, n)
                left join pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum and k.attnum > 0
                where k.n <= i.indnkeyatts)
        ) order by ic.relname), '[]')
        from pg_index as i
        join pg_class as ic on ic.oid = i.indexrelid
        where i.indrelid = c.oid) as indexes
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p', 'v', 'm', 'f')
