-- When an operator took a deletion back: the row is the app's from then on, and the deletion, should it be told again,
-- does nothing.
alter table clerk_sync.identities add column kept_at timestamptz;
