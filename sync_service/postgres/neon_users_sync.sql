-- Neon Auth's table, for who comes from it; the columns are ordinary ones. Where it exists, it is left as it is.
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
