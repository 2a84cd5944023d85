-- Rails with discard: rows are marked, and both times are filled by the framework
create table bakery.ar_internal_metadata (key varchar primary key, value varchar);
create table bakery.members (
    id bigserial primary key,
    auth_ref varchar,
    login_email varchar,
    name varchar,
    admin boolean not null default false,
    locked boolean not null default false,
    discarded_at timestamp(6) without time zone,
    created_at timestamp(6) without time zone not null,
    updated_at timestamp(6) without time zone not null
);
create unique index index_members_on_auth_ref on bakery.members (auth_ref);
create table bakery.loaves (id bigserial primary key, member_id bigint not null references bakery.members (id));
insert into bakery.members (auth_ref, login_email, name, discarded_at, created_at, updated_at) values
    ('user_2bakeryFirst', 'a@bakery.example', 'A', null, '2024-01-01', '2024-02-01'),
    ('user_2bakerySecond', null, 'B', '2024-03-01', '2024-01-01', '2024-03-01');
