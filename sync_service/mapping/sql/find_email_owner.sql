-- Another row that has the email. Its identity is locked, so that its version cannot change during the comparison.
select
    app./*<id_column>*/id/*</id_column>*/::text as clerk_id,
    known.version, known.tiebreak, known.deleted_at is not null as is_deleted
from /*<table>*/public.users/*</table>*/ as app
left join lateral (
    select version, tiebreak, deleted_at
    from clerk_sync.identities
    where clerk_id = app./*<id_column>*/id/*</id_column>*/::text
    for update
) as known on true
where /*<owner_has_email>*/app.email = $1::text/*</owner_has_email>*/
    and app./*<id_column>*/id/*</id_column>*/::text is distinct from $2
limit 1
