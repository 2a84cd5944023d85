-- The second half of a deletion, a statement of its own: the first waited for the identity's lock, and only a
-- statement that begins after that sees the row which the lock's last holder wrote.
with gone as (
    delete from {table} where {clerk_id} = any($1::text[])
)
update clerk_sync.events set payload = null where clerk_id = any($1::text[]) and payload is not null
