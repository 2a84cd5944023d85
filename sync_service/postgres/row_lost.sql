-- The app has removed the row of somebody who is not deleted. Any snapshot is newer than nothing.
update clerk_sync.identities
set version = 0, tie = ''
where clerk_id = $1 and deleted_at is null and not exists (select from {table} where {clerk_id}::text = $1)
