-- The identity as it is now. A statement's own snapshot may be older than the lock for which it has waited; a volatile
-- function takes a new snapshot.
create function clerk_sync.current_identity(wanted text) returns clerk_sync.identities
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    found_identity clerk_sync.identities;
begin
    select i.* into found_identity from clerk_sync.identities as i where i.clerk_id = wanted;
    return found_identity;
end
$$;

-- Until now, events that arrived after the deletion of their user kept the user's data.
update clerk_sync.events as e
set payload = null,
    status = case when e.status in ('failed', 'dead') then 'stale' else e.status end,
    next_attempt_at = null,
    finished_at = coalesce(e.finished_at, now())
from clerk_sync.identities as i
where i.clerk_id = e.clerk_id and i.deleted_at is not null and e.payload is not null and e.type not like '%.deleted'
    -- While a deletion is deferred, an operator may still restore the user.
    and e.received_at > i.deleted_at;

-- Unreadable events without a user, which retention removes.
create index events_without_user on clerk_sync.events (received_at) where clerk_id is null and finished_at is null;
