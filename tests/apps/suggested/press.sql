-- Go with gorm: prefixed ULIDs, nullable times, a role from a lookup table, a trigger that sets the time of a change
create table press.roles (id integer primary key, name text not null unique);
create table press.accounts (
    id varchar(40) primary key,
    clerk_ref text unique,
    email text not null,
    full_name text,
    role_id integer not null references press.roles (id),
    banned boolean,
    created_at timestamptz,
    updated_at timestamptz,
    last_seen_at timestamptz,
    deleted_at timestamptz
);
create unique index accounts_email_alive on press.accounts (lower(email)) where deleted_at is null;
create function press.touch() returns trigger language plpgsql as $$ begin new.updated_at := now(); return new; end $$;
create trigger touch before insert or update on press.accounts for each row execute function press.touch();
insert into press.roles values (1, 'editor'), (2, 'reader');
insert into press.accounts (id, clerk_ref, email, role_id, banned, created_at, last_seen_at) values
    ('acc_01ARZ3NDEKTSV4RRFFQ69G5FAV', 'user_2pressFirst', 'a@press.example', 1, true, '2024-01-01', '2024-01-01'),
    ('acc_01BX5ZZKBKACTAV9WEVGEMMVRZ', null, 'b@press.example', 2, false, '2024-01-01', null),
    ('acc_01BX5ZZKBKACTAV9WEVGEMMVS0', null, 'c@press.example', 2, false, '2024-01-01', null);
