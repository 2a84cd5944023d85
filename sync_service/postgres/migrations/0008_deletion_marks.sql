-- The values that the marks of a deletion replaced, such as a status, so that an operator can restore the user.
create table clerk_sync.deletion_marks (
    clerk_id text primary key,
    app_key text,
    values_before jsonb not null
);

create index deletion_marks_by_app_key on clerk_sync.deletion_marks (app_key);
