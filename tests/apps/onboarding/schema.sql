create table users (
    id serial primary key,
    clerk_id varchar(255) unique not null,
    email varchar(255) not null unique,
    email_verified boolean default false,
    first_name varchar(100),
    last_name varchar(100),
    image_url text,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    last_sign_in_at timestamptz
);
create index users_email_idx on users (email);

create table user_profiles (
    id serial primary key,
    user_id integer not null unique references users (id) on delete cascade,
    clerk_id varchar(255) not null,
    answers jsonb not null default '{}',
    completed boolean generated always as (answers ? 'finished_at') stored,
    updated_at timestamptz default now()
);

create table user_interactions (
    id bigserial primary key,
    user_id integer not null references users (id) on delete cascade,
    clerk_id varchar(255) not null,
    kind varchar(30) not null check (kind in ('view', 'click', 'answer', 'skip')),
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    seconds double precision generated always as (extract(epoch from ended_at - started_at)::double precision) stored,
    constraint interactions_end_after_they_start check (ended_at is null or ended_at >= started_at)
);
create index user_interactions_user_id_idx on user_interactions (user_id, started_at desc);

create table user_results (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    clerk_id varchar(255) not null,
    score numeric(5, 2) check (score between 0 and 100),
    passed boolean generated always as (score >= 60) stored
);

create table user_sessions (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    clerk_id varchar(255) not null,
    session_id varchar(255) not null unique,
    ip_address inet,
    user_agent text,
    device_type varchar(50),
    browser varchar(100),
    location_country varchar(2),
    location_city varchar(100),
    created_at timestamptz not null default now(),
    last_active_at timestamptz not null default now(),
    expires_at timestamptz,
    ended_at timestamptz,
    is_active boolean not null default true,
    check (last_active_at >= created_at),
    check (expires_at is null or expires_at > created_at),
    check (ended_at is null or ended_at >= created_at)
);

-- What was collected before sign-up, and how far it got; nobody thought of deletions here.
create table data_migrations (
    id serial primary key,
    user_id integer not null references users (id),
    clerk_id varchar(255) not null,
    source_table varchar(100) not null,
    status varchar(20) not null default 'pending'
        check (status in ('pending', 'completed', 'failed', 'rolled_back')),
    moved_at timestamptz
);
