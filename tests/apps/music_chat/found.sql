-- As an earlier auth provider left it: all but the two times are generated from the document.
create schema neon_auth;
create table neon_auth.users_sync (
    raw_json jsonb not null,
    id text generated always as (raw_json ->> 'id') stored primary key,
    name text generated always as (raw_json ->> 'display_name') stored,
    email text generated always as (raw_json ->> 'primary_email') stored,
    created_at timestamptz generated always as (
        to_timestamp(trunc(((raw_json ->> 'signed_up_at_millis')::bigint)::double precision) / 1000)
    ) stored,
    updated_at timestamptz,
    deleted_at timestamptz
);
create index users_sync_deleted_at_idx on neon_auth.users_sync (deleted_at);

-- A listener from before Clerk.
insert into neon_auth.users_sync (raw_json)
values ('{"id": "old_1", "display_name": "Old PII_SENTINEL", "primary_email": "old.PII_SENTINEL@example.com"}');
