-- SQLAlchemy: an enum with a label for deleted accounts, and children that may not lose their parent
create type mill.account_state as enum ('pending', 'active', 'closed');
create table mill.alembic_version (version_num varchar(32) primary key);
create table mill.user_account (
    id uuid primary key,
    external_user_id varchar(64) not null unique,
    user_email varchar(255) not null unique,
    given_name varchar(60) not null check (length(given_name) > 0),
    state mill.account_state not null,
    settings jsonb not null,
    tags text[] not null,
    referral_code varchar(10) not null unique,
    quota integer not null check (quota >= 1),
    created_at timestamp not null,
    updated_at timestamp not null
);
create table mill.invoices (id serial primary key, user_id uuid not null references mill.user_account (id) on delete restrict);
insert into mill.user_account values
    ('0190163d-8694-739b-aea5-966c26f8ad91', 'user_2millFirst', 'a@mill.example', 'A', 'active', '{"x": 1}', '{a}', 'Ab3dEf9hJk', 5, '2024-01-01', '2024-01-01'),
    ('0190163d-8694-739b-aea5-966c26f8ad92', 'user_2millSecond', 'b@mill.example', 'B', 'closed', '{}', '{}', 'Zz8yXw7vQ1', 9, '2024-01-01', '2024-01-01');
