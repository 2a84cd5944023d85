-- When Clerk last told of the user as it is: by a webhook that won, or because it was asked. Null until then, as for a
-- row that was made from what the app said of a user.
alter table clerk_sync.identities add column confirmed_at timestamptz;

create index identities_to_ask_clerk_about on clerk_sync.identities (clerk_id) where refetch_wanted;

-- Who asks Clerk about a user right now, so that others wait for the answer instead of asking too. A lease, not a lock:
-- nobody holds a transaction open over the network, and whoever crashes with it loses it.
create table clerk_sync.fetches (
    clerk_id text constraint one_asks_about_a_user_at_a_time primary key,
    until timestamptz not null
);
