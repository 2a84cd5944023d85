-- The state of the inbox in one statement, so that the figures belong to one moment. Each part reads an index: the
-- applied events are those of no other status.
select
    (select count(*) from clerk_sync.events) as events,
    (
        select coalesce(json_object_agg(status, n), '{}')
        from (select status, count(*) as n from clerk_sync.events where status <> 'applied' group by status) as others
    ) as others,
    (select min(received_at) from clerk_sync.events where status = 'failed') as oldest_waiting_at,
    (select max(received_at) from clerk_sync.events) as last_event_at,
    (select count(*) from clerk_sync.identities where created_by in ('login', 'profile')) as missed_webhooks,
    now() as at
