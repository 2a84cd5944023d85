-- The Clerk IDs are in a table of their own
create table harbor.users (id serial primary key, email text unique, created_at timestamptz not null default now());
create table harbor.identities (
    id serial primary key,
    user_id integer not null references harbor.users (id) on delete cascade,
    subject text not null unique
);
insert into harbor.users (email) values ('a@harbor.example'), ('b@harbor.example');
insert into harbor.identities (user_id, subject) values (1, 'user_2harborFirst');
