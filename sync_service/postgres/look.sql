-- All that is known of one user, in one round trip by three indexes.
select
    to_jsonb(app)::text as row,
    known.deleted_at is not null as deleted,
    known.version is not null as known,
    coalesce(known.address_wanted, false) as address_wanted,
    known.confirmed_at,
    extract(epoch from now() - known.confirmed_at)::float8 as age,
    (select id from clerk_sync.instance) as instance_id
from (select $1::text as clerk_id) as wanted
left join clerk_sync.identities as known on known.clerk_id = wanted.clerk_id
left join {table} as app on app.{clerk_id}::text = wanted.clerk_id
