-- Go with gorm: a unique index without null, an indexed deleted_at that no row uses, an address for bills, amounts
create table canal.users (
    id bigserial primary key,
    provider varchar(40) not null,
    uid varchar(64),
    email varchar(255) not null,
    billing_email varchar(255) not null,
    quota_mb bigint not null,
    visits integer not null,
    activated boolean not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);
create unique index idx_users_uid on canal.users (uid) where uid is not null;
create unique index idx_users_provider_uid on canal.users (provider, uid);
create unique index idx_users_email on canal.users (email);
create index idx_users_deleted_at on canal.users (deleted_at);
create table canal.boats (id bigserial primary key, user_id bigint not null references canal.users (id) on delete cascade);
insert into canal.users (provider, uid, email, billing_email, quota_mb, visits, activated, created_at, updated_at) values
    ('clerk', 'user_2canalFirst', 'a@canal.example', 'bills@canal.example', 500, 31, true, '2024-01-01', '2024-01-01'),
    ('google', null, 'b@canal.example', 'b@canal.example', 500, 12, true, '2024-01-01', '2024-01-01'),
    ('google', null, 'c@canal.example', 'c@canal.example', 900, 1, true, '2024-01-01', '2024-01-01');
