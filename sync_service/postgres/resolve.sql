-- The app's own keys of many users, each as JSON, so that it stays what it is: a number, a uuid, a text.
select wanted.clerk_id, app.key::text as key, known.deleted
-- In brackets and by `offset 0`, as in changes.sql: whatever the tables' sizes, one look by the index for each.
from unnest((select $1::text[])) as wanted (clerk_id)
left join lateral (
    select to_jsonb(theirs.{key}) as key from {table} as theirs where theirs.{clerk_id}::text = wanted.clerk_id offset 0
) as app on true
left join lateral (
    select identity.deleted_at is not null as deleted
    from clerk_sync.identities as identity where identity.clerk_id = wanted.clerk_id offset 0
) as known on true
