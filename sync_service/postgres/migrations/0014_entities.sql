-- Sessions, organizations and memberships follow the rules of users. Their IDs differ, so they share one table.
alter table clerk_sync.identities add column entity text not null default 'user'
    constraint an_entity_is_one_of_four check (entity in ('user', 'session', 'organization', 'membership'));

-- The user to whom the session or membership of an event belongs. The event's data goes with the user.
alter table clerk_sync.events add column user_id text;
create index events_of_an_owner on clerk_sync.events (user_id) where user_id is not null;

-- The parent without which an event cannot be applied. Its arrival makes the event due.
alter table clerk_sync.events add column waiting_for text;
create index events_waiting_for_parent on clerk_sync.events (waiting_for)
    where waiting_for is not null and status = 'failed';
