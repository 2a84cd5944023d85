-- The change feed. Each committed change of the app's table has an entry, which the statement of the change writes. It
-- has no personal data. The columns are those of the mapping; the row itself is read when the entry is delivered.
create table clerk_sync.changes (
    -- The transactions that are still open are known by their ID, so that a reader can stop before the first of them.
    transaction_id xid8 not null default pg_current_xact_id(),
    id bigint generated always as identity,
    type text not null,
    clerk_id text not null,
    app_key jsonb,
    columns text[] not null default '{}',
    at timestamptz not null default now(),
    constraint a_change_is_known_by_its_transaction_and_number primary key (transaction_id, id)
);

create index changes_of_a_user on clerk_sync.changes (clerk_id, id);

-- A deletion is recorded once, also if a backup brings the row back and it is deleted again.
create table clerk_sync.recorded_deletions (
    clerk_id text not null,
    type text not null,
    at timestamptz not null default now(),
    constraint a_deletion_is_recorded_once primary key (clerk_id, type)
);
