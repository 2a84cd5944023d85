-- Compares users of Clerk with their rows and identities; returns those that are not the same. It locks and writes
-- nothing, so that a run over unchanged users leaves no trace in the table.
select
    input.n::integer,
    known.version,
    coalesce(known.is_deleted, false) as is_deleted,
    coalesce(known.email_pending, false) as email_pending,
    shown.columns is not null as has_row,
    coalesce(shown.columns, '{}') as columns
from
    unnest((select $1::text[]), (select $2::bigint[]), (select $3::jsonb[]))
        with ordinality as input (clerk_id, version, user_row, n)
-- `offset 0`, as in apply_changes.sql: one index look-up for each user, at any size of the tables.
left join lateral (
    select identity.version, identity.deleted_at is not null as is_deleted, identity.email_pending
    from clerk_sync.identities as identity
    where identity.clerk_id = input.clerk_id
    offset 0
) as known on true
left join lateral (
    select array_remove(array[/*<differing_columns>*/case when to_jsonb(theirs.banned) is distinct from to_jsonb(r.banned) then 'banned' end/*</differing_columns>*/]::text[], null) as columns
    from /*<table>*/public.users/*</table>*/ as theirs
    cross join lateral jsonb_to_record(input.user_row) as r (/*<updated_definitions>*/id text, banned boolean/*</updated_definitions>*/)
    where theirs./*<id_column>*/id/*</id_column>*/ = input.clerk_id::/*<id_type>*/text/*</id_type>*/
    offset 0
) as shown on true
where known.version is distinct from input.version or shown.columns is null or cardinality(shown.columns) > 0
order by input.n
