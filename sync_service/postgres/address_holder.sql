-- The row's identity is locked, so that it cannot become newer while the two claims are weighed.
select app.{clerk_id}::text as clerk_id, known.version, known.tie, known.deleted_at is not null as deleted
from {table} as app
left join lateral (
    select version, tie, deleted_at from clerk_sync.identities where clerk_id = app.{clerk_id}::text for update
) as known on true
where {held} and app.{clerk_id}::text is distinct from $2
limit 1
