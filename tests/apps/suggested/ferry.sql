-- Drizzle: keys by $defaultFn(createId), times that the client writes and the database does not require
create table ferry.passengers (
    id text primary key,
    clerk_id text not null unique,
    email text,
    phone text,
    username text unique,
    locale text,
    is_subscribed boolean,
    created_at timestamptz default now(),
    updated_at timestamptz
);
create table ferry.bookings (id text primary key, passenger_id text references ferry.passengers (id) on delete cascade);
insert into ferry.passengers values
    ('tz4a98xxat96iws9zmbrgj3a', 'user_2ferryFirst', 'a@ferry.example', '+15550100', 'captain', 'nb', true, '2024-01-01', '2024-01-02'),
    ('pfh0haxfpzowht3oi213cqos', 'user_2ferrySecond', 'b@ferry.example', null, null, 'nb', false, '2024-01-01', '2024-01-01');
