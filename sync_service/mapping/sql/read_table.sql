-- The catalogue's data on a table in one row; no row if the table does not exist.
-- https://www.postgresql.org/docs/current/catalogs.html
select
    n.nspname as schema,
    c.relname as name,
    c.oid::bigint as oid,
    c.relkind::text as kind,
    coalesce((select sum(pg_relation_size(p.relid)) from pg_partition_tree(c.oid) as p), pg_relation_size(c.oid))::bigint
        as bytes,
    row_security_active(c.oid) as row_security,
    (select coalesce(json_agg(p), '[]') from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as p
        where has_table_privilege(c.oid, p)) as privileges,
    has_schema_privilege(n.oid, 'USAGE') as schema_usable,
    (select coalesce(json_agg(format('%s.%s', sn.nspname, s.relname) order by s.relname), '[]')
        from pg_attrdef as d
        join pg_depend as l
            on l.classid = 'pg_attrdef'::regclass and l.objid = d.oid and l.refclassid = 'pg_class'::regclass
        join pg_class as s on s.oid = l.refobjid
        join pg_namespace as sn on sn.oid = s.relnamespace
        -- `case` fixes the order: has_sequence_privilege() raises an error for a relation that is not a sequence.
        where d.adrelid = c.oid
            and case when s.relkind = 'S' then not has_sequence_privilege(s.oid, 'USAGE, UPDATE') end
    ) as inaccessible_sequences,
    (select coalesce(json_agg(t.tgname order by t.tgname), '[]') from pg_trigger as t
        where t.tgrelid = c.oid and not t.tgisinternal) as triggers,
    (select coalesce(json_object_agg(r.rulename, (array['select', 'update', 'insert', 'delete'])[r.ev_type::text::integer]
            order by r.rulename), '{}')
        from pg_rewrite as r
        where r.ev_class = c.oid and r.ev_enabled <> 'D' and r.rulename <> '_RETURN') as rules,
    (select coalesce(json_agg(p.pubname order by p.pubname), '[]')
        from pg_publication as p
        join pg_publication_tables as pt on pt.pubname = p.pubname
        where pt.schemaname = n.nspname and pt.tablename = c.relname and (p.pubupdate or p.pubdelete)
            and not case c.relreplident
                when 'd' then exists (select from pg_index as i where i.indrelid = c.oid and i.indisprimary)
                when 'i' then exists (select from pg_index as i where i.indrelid = c.oid and i.indisreplident)
                else c.relreplident = 'f'
            end
    ) as blocking_publications,
    (select coalesce(json_agg(json_build_object(
            'name', a.attname,
            'type', format_type(a.atttypid, a.atttypmod),
            'base', b.base,
            'plain_type', format_type(b.oid, greatest(a.atttypmod, b.typmod)),
            'category', t.typcategory,
            'length', case when b.base in ('varchar', 'bpchar')
                then nullif(greatest(a.atttypmod, b.typmod), -1) - 4 end,
            'not_null', a.attnotnull or b.not_null,
            'has_default', a.atthasdef or a.attidentity <> '' or b.has_default,
            'generated', a.attgenerated <> '' or a.attidentity = 'a',
            -- Bits of tgtype: for each row, before, insert.
            'filled_by', (select min(tr.tgname) from pg_trigger as tr join pg_proc as f on f.oid = tr.tgfoid
                where tr.tgrelid = c.oid and not tr.tgisinternal and tr.tgenabled <> 'D' and tr.tgtype & 7 = 7
                    and f.prosrc ~* format('\mnew\s*\.\s*"?%s"?\s*:?=',
                        regexp_replace(a.attname, '([^[:alnum:]_])', '\\\1', 'g'))),
            'expression', coalesce(
                (select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef as d
                    where d.adrelid = c.oid and d.adnum = a.attnum),
                b.default_expression
            ),
            'labels', (select coalesce(json_agg(e.enumlabel order by e.enumsortorder), '[]')
                from pg_enum as e where e.enumtypid = b.oid)
        ) order by a.attnum), '[]')
        from pg_attribute as a
        join pg_type as t on t.oid = a.atttypid
        cross join lateral (
            -- The type below all domains. Each domain can add a length, a default or NOT NULL.
            with recursive below as (
                select t.oid, t.typname, t.typtype, t.typbasetype, t.typtypmod, t.typnotnull, t.typdefault, 1 as depth
                union all
                select
                    d.oid, d.typname, d.typtype, d.typbasetype, d.typtypmod, d.typnotnull, d.typdefault, depth + 1
                from below join pg_type as d on below.typtype = 'd' and d.oid = below.typbasetype
            )
            select
                max(oid::bigint) filter (where typtype <> 'd')::oid as oid,
                max(typname::text) filter (where typtype <> 'd') as base,
                max(typtypmod) as typmod, bool_or(typnotnull) as not_null, bool_or(typdefault is not null) as has_default,
                (array_agg(typdefault order by depth) filter (where typdefault is not null))[1] as default_expression
            from below
        ) as b
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
    (select coalesce(json_agg(json_build_object(
            'name', ic.relname,
            'unique', i.indisunique and i.indimmediate,
            'primary', i.indisprimary,
            'valid', i.indisvalid,
            'partial', i.indpred is not null,
            'exclusive', i.indisunique or i.indisexclusion,
            'predicate', pg_get_expr(i.indpred, i.indrelid),
            'nulls_not_distinct', coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),  -- PostgreSQL 15
            'collations', (select json_agg(case when l.oid is not null then format('%I.%I', ln.nspname, l.collname) end
                    order by k.n)
                from generate_series(0, i.indnkeyatts - 1) as k (n)
                left join pg_collation as l on l.oid = i.indcollation[k.n]
                left join pg_namespace as ln on ln.oid = l.collnamespace),
            -- The operators with which the index finds two rows equal: of its exclusion constraint, or of its B-tree.
            'operators', (select coalesce(json_agg(format('operator(%I.%s)', opn.nspname, op.oprname) order by k.n), '[]')
                from generate_series(0, i.indnkeyatts - 1) as k (n)
                join pg_opclass as oc on oc.oid = i.indclass[k.n]
                left join pg_constraint as x on x.conindid = i.indexrelid and x.conrelid = c.oid and x.conexclop is not null
                left join pg_amop as ao on ao.amopfamily = oc.opcfamily and ao.amoplefttype = oc.opcintype
                    and ao.amoprighttype = oc.opcintype and ao.amopstrategy = 3 and x.oid is null
                join pg_operator as op on op.oid = coalesce(x.conexclop[k.n + 1], ao.amopopr)
                join pg_namespace as opn on opn.oid = op.oprnamespace
                where i.indisunique or i.indisexclusion),
            -- A column by its plain name, an expression as PostgreSQL prints it.
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
