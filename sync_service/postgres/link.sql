-- Adopts rows of the app that have the address of a user, verified by Clerk, and no Clerk ID. Only for users of whom
-- nothing is known, and only where the address is in one row: of two, nobody can say which is meant.
with wanted as materialized (  -- first, so that nobody looks through the table for users who are known
    select w.clerk_id, w.address
    from (select set_config('lock_timeout', $3, true)) as patience, unnest($1::text[], $2::text[]) as w (clerk_id, address)
    where not exists (select from clerk_sync.identities as known where known.clerk_id = w.clerk_id)
        and not exists (select from {table} as other where other.{clerk_id}::text = w.clerk_id)
)
update {table} as app
set {clerk_id} = wanted.clerk_id
from wanted
where app.{clerk_id} is null
    and lower(app.{address}::text) = lower(wanted.address)
    and (select count(*) from {table} as other where lower(other.{address}::text) = lower(wanted.address)) = 1
