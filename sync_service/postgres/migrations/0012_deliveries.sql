-- The delivery of a change to the app. Without SYNC_NOTIFY_URL a change has none.
alter table clerk_sync.changes
    add column delivery text
        constraint a_delivery_is_pending_delivered_or_dead check (delivery in ('pending', 'delivered', 'dead')),
    add column attempts integer not null default 0,
    -- The class of the last failure, such as a status. Never a part of the answer.
    add column reason text,
    add column next_attempt_at timestamptz,
    add constraint only_a_pending_delivery_has_a_next_attempt
        check ((delivery is not distinct from 'pending') = (next_attempt_at is not null));

create index deliveries_to_attempt on clerk_sync.changes (next_attempt_at) where delivery = 'pending';
create index pending_deliveries_of_a_user on clerk_sync.changes (clerk_id, id) where delivery = 'pending';
create index dead_deliveries on clerk_sync.changes (id) where delivery = 'dead';
