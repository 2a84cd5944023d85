-- The row's identity is locked, so that it cannot become newer while the two claims are weighed.
select app.{clerk_id} as clerk_id, known.version, known.tie, known.deleted_at is not null as deleted
from {table} as app
left join lateral (
    select version, tie, deleted_at from clerk_sync.identities where clerk_id = app.{clerk_id} for update
) as known on true
where app.{email} = $1 and app.{clerk_id} is distinct from $2
limit 1
