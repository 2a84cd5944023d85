-- Another row that violates a unique rule together with the row in $1. The keys of both are computed by the index's own
-- expressions and compared by its operators. The row in $1 gets its other columns from the user's row, or as defaults.
-- The holder's identity is locked, so that its version cannot change during the comparison.
select
    held.clerk_id, held.value, known.version, known.tiebreak, known.deleted_at is not null as is_deleted
from (
    select /*<wanted_keys>*/email as key_1/*</wanted_keys>*/
    from (
        select /*<base>*/r.email/*</base>*/
        from jsonb_to_record($1::jsonb) as r (/*<definitions>*/email text/*</definitions>*/)
        left join /*<table>*/public.users/*</table>*/ as own
            on own./*<id_column>*/id/*</id_column>*/ = $2::text::/*<id_type>*/text/*</id_type>*/
            and own./*<id_column>*/id/*</id_column>*/::text = $2
    ) as base
) as wanted
join (
    select
        /*<id_column>*/id/*</id_column>*/::text as clerk_id, /*<column>*/email/*</column>*/::text as value,
        /*<held_keys>*/email as key_1/*</held_keys>*/
    from /*<table>*/public.users/*</table>*/
    where /*<predicate>*/true/*</predicate>*/
) as held on /*<same_keys>*/held.key_1 = wanted.key_1/*</same_keys>*/
left join lateral (
    select version, tiebreak, deleted_at from clerk_sync.identities where clerk_id = held.clerk_id for update
) as known on true
where held.clerk_id is distinct from $2
limit 1
