-- The foreign keys of a table that refer to the users table, each with its columns and those of the users table.
select
    array(
        select a.attname::text
        from unnest(fk.conkey) with ordinality as k (attnum, n)
        join pg_attribute as a on a.attrelid = fk.conrelid and a.attnum = k.attnum
        order by k.n
    ) as columns,
    array(
        select a.attname::text
        from unnest(fk.confkey) with ordinality as k (attnum, n)
        join pg_attribute as a on a.attrelid = fk.confrelid and a.attnum = k.attnum
        order by k.n
    ) as referenced
from pg_constraint as fk
where fk.contype = 'f' and fk.conrelid = $1::bigint::oid and fk.confrelid = $2::bigint::oid
