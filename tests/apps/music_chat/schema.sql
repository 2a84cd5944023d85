create table chat_messages (
    id bigint generated always as identity primary key,
    clerk_id text not null references neon_auth.users_sync (id) on delete cascade,
    role text not null check (role in ('user', 'assistant')),
    content text not null,
    created_at timestamptz not null default now()
);
create index chat_messages_clerk_id_created_at_idx on chat_messages (clerk_id, created_at desc);

create table message_feedback (
    id bigint generated always as identity primary key,
    clerk_id text not null references neon_auth.users_sync (id) on delete cascade,
    message_id bigint references chat_messages (id) on delete cascade,
    rating smallint not null check (rating between -1 and 1),
    created_at timestamptz not null default now()
);
create index message_feedback_clerk_id_created_at_idx on message_feedback (clerk_id, created_at desc);

create table track_likes (
    clerk_id text not null references neon_auth.users_sync (id) on delete cascade,
    track_id uuid not null default gen_random_uuid(),
    created_at timestamptz not null default now(),
    primary key (clerk_id, track_id)
);
create index track_likes_clerk_id_created_at_idx on track_likes (clerk_id, created_at desc);
