-- Hand-written: the address of a contact, names in two halves, secrets with a prefix, accounts that are switched off
create table lodge.owners (
    owner_id uuid primary key default gen_random_uuid(),
    auth_ref text unique,
    contact_email text not null unique,
    first varchar(60) not null,
    last varchar(60) not null,
    secret text not null unique,
    photo_url text not null default '/default.png',
    disabled boolean not null default false,
    modified_on timestamptz not null default now()
);
create table lodge.cabins (id serial primary key, owner_id uuid not null references lodge.owners (owner_id) on delete restrict);
insert into lodge.owners (auth_ref, contact_email, first, last, secret, disabled) values
    ('user_2lodgeFirst', 'a@lodge.example', 'Aino', 'Aho', 'sk_live_Ab3dEf9hJkLm0pQr5tUv', false),
    ('user_2lodgeSecond', 'b@lodge.example', 'Bror', 'Bo', 'sk_live_Zz8yXw7vQ1aBcD3eF4gH', true);
