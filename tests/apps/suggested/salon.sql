-- Prisma: keys by cuid(), @updatedAt, an enum without a default, a soft deletion that no row uses
create type salon."Role" as enum ('OWNER', 'STYLIST', 'CLIENT');
create table salon._prisma_migrations (id varchar(36) primary key);
create table salon."Customer" (
    "id" text primary key,
    "clerkUuid" text unique,
    "contactEmail" text,
    "email" text not null unique,
    "displayName" text not null,
    "profileImage" text,
    "role" salon."Role" not null,
    "loyaltyPoints" integer not null,
    "deletedAt" timestamp(3),
    "createdAt" timestamp(3) not null default current_timestamp,
    "updatedAt" timestamp(3) not null
);
create table salon."Visit" ("id" text primary key, "customerId" text not null references salon."Customer" ("id") on delete cascade);
insert into salon."Customer" values
    ('clw0q3k9h000008l4e7xk2b1m', 'user_2salonFirst', null, 'a@salon.example', 'A', null, 'OWNER', 90, null, '2024-01-01', '2024-01-01'),
    ('clw0q9zt1000108l45m2w8c3n', null, null, 'b@salon.example', 'B', null, 'STYLIST', 3, null, '2024-01-02', '2024-01-02');
