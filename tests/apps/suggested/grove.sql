-- Triggers fill required columns, and a status and a time mark deleted users
create domain grove.address as text check (value like '%@%');
create table grove.members (
    id bigint generated always as identity primary key,
    external_auth_id text unique,
    email grove.address not null unique,
    slug text not null unique,
    search tsvector not null,
    status text not null default 'active' check (status in ('active', 'paused', 'deleted')),
    deleted_at timestamptz,
    preferred_locale text not null
);
create function grove.fill() returns trigger language plpgsql as $$
begin new.slug := coalesce(new.slug, 'm-' || new.id); NEW.search = to_tsvector('simple', new.slug); return new; end $$;
create trigger fill before insert or update on grove.members for each row execute function grove.fill();
insert into grove.members (external_auth_id, email, slug, status, deleted_at, preferred_locale) values
    ('user_2groveFirst', 'a@grove.example', 'ann', 'active', null, 'en'),
    ('user_2groveSecond', 'c@grove.example', 'cat', 'deleted', '2024-05-01', 'en');
