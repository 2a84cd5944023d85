-- The second half of a deletion, a statement of its own: the first waited for the identity's lock, and only a
-- statement that begins after that sees the row which the lock's last holder wrote.
-- What the inbox holds of the person goes too, and what waits there for another attempt has nothing left to do.
with gone as (
    {gone}
)
update clerk_sync.events
set payload = null,
    status = case when status in ('failed', 'dead') and type <> 'user.deleted' then 'stale' else status end,
    reason = case when type <> 'user.deleted' then null else reason end,
    next_attempt_at = case when type = 'user.deleted' then next_attempt_at end,
    finished_at = case when type = 'user.deleted' then finished_at else coalesce(finished_at, now()) end
where clerk_id in (
        select clerk_id from clerk_sync.identities where clerk_id = any($1::text[]) and deleted_at is not null
    )
    and (payload is not null or (status in ('failed', 'dead') and type <> 'user.deleted'))
