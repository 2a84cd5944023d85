-- Django: the user model of an app, without any switched-off account yet; foreign keys never cascade
create table council.django_migrations (id bigint primary key, app text, name text);
create table council.core_user (
    id uuid primary key,
    password varchar(128) not null,
    last_login timestamptz,
    is_superuser boolean not null,
    username varchar(150) not null unique,
    first_name varchar(150) not null,
    last_name varchar(150) not null,
    email varchar(254) not null,
    is_staff boolean not null,
    is_active boolean not null,
    date_joined timestamptz not null,
    clerk_sub varchar(255) unique
);
create table council.motions (id bigserial primary key, author_id uuid not null references council.core_user (id) deferrable initially deferred);
insert into council.core_user values
    ('7c9e6679-7425-40de-944b-e07fc1f90ae7', '!x', null, true, 'mayor', '', '', 'm@council.example', true, true, '2020-01-01', null);
