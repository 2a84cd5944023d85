create table users (
    id text primary key,
    email text not null unique,
    first_name text,
    last_name text,
    image_url text,
    tier text default 'FREE' check (tier in ('FREE', 'PRO', 'MAXX')),
    created_at timestamp without time zone default now(),
    updated_at timestamp without time zone default now()
);

create table rate_limits (
    user_id text primary key references users (id) on delete cascade,
    message_count integer default 0,
    last_reset_at timestamp without time zone default now()
);
