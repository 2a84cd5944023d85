-- What the row does not show though nothing newer is known: the app has removed it, or its address was somebody else's.
-- Any snapshot is newer than nothing, so the next one is saved whole.
update clerk_sync.identities
set version = 0, tie = ''
where clerk_id = $1 and version <= $2 and deleted_at is null
    and (address_wanted or not exists (select from {table} where {clerk_id}::text = $1))
