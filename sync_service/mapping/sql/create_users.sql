-- The users table for an app without one. An existing public.users stays unchanged. Free space on each page keeps a new
-- version of a row beside the old one, and no index changes.
create table if not exists public.users (
    id text primary key,
    email text unique,
    email_verified boolean not null,
    phone text,
    username text,
    first_name text,
    last_name text,
    image_url text,
    external_id text,
    banned boolean not null,
    locked boolean not null,
    public_metadata jsonb not null,
    last_sign_in_at timestamptz,
    created_at timestamptz,
    updated_at timestamptz
) with (fillfactor = 85);
