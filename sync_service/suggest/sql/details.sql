-- The check constraints of a table ($1) and its triggers, with the source of their functions.
select
    (select coalesce(json_agg(json_build_object(
            'columns', (select coalesce(json_agg(a.attname), '[]') from pg_attribute as a
                where a.attrelid = con.conrelid and a.attnum = any (con.conkey)),
            'definition', pg_get_constraintdef(con.oid)
        ) order by con.conname), '[]')
        from pg_constraint as con where con.conrelid = $1 and con.contype = 'c') as checks,
    (select coalesce(json_agg(json_build_object(
            'name', t.tgname,
            'before', (t.tgtype & 2) <> 0,
            'on_insert', (t.tgtype & 4) <> 0,
            'on_update', (t.tgtype & 16) <> 0,
            'source', p.prosrc
        ) order by t.tgname), '[]')
        from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid
        where t.tgrelid = $1 and not t.tgisinternal and t.tgenabled <> 'D') as triggers
