-- Neon Auth's table, for apps that move away from it. The columns are ordinary columns, while Neon generates them from
-- raw_json. An existing table stays unchanged.
create schema if not exists neon_auth;
create table if not exists neon_auth.users_sync (
    raw_json jsonb not null,
    id text primary key,
    name text,
    email text,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz
);
create index if not exists users_sync_deleted_at_idx on neon_auth.users_sync (deleted_at);
