-- Failed and dead events, grouped by their last failure; of each status the newest $2, because after an outage there may
-- be hundreds of thousands. The key is one array, of which PostgreSQL expects few values: it hashes the events instead of
-- sorting them. `count(distinct …)` would sort, too, so that users are counted by a first grouping.
with waiting as (
    (
        select status, type, reason, failures -> -1 as failure, coalesce(user_id, clerk_id) as clerk_id, received_at, id
        from clerk_sync.events where status = 'dead'
        order by received_at desc, id desc limit $2
    )
    union all
    (
        select status, type, reason, failures -> -1 as failure, coalesce(user_id, clerk_id) as clerk_id, received_at, id
        from clerk_sync.events where status = 'failed'
        order by received_at desc, id desc limit $2
    )
),
by_user as (
    select
        array[status, type, reason, failure ->> 'table', failure ->> 'column', failure ->> 'constraint'] as key,
        hashtext(clerk_id) as user_hash,
        count(*) as events,
        min(received_at) as first_received_at,
        max(received_at) as last_received_at,
        min((extract(epoch from received_at) * 1000000)::bigint || ' ' || id collate "C") as oldest,
        max((extract(epoch from received_at) * 1000000)::bigint || ' ' || id collate "C") as newest
    from waiting
    group by key, user_hash
)
select
    key[1] as status, key[2] as type, key[3] as reason, key[4] as table_name, key[5] as column_name,
    key[6] as constraint_name,
    sum(events)::bigint as events,
    count(user_hash) as users,
    min(first_received_at) as first_received_at,
    max(last_received_at) as last_received_at,
    split_part(max(newest), ' ', 2) as newest,
    split_part(min(oldest), ' ', 2) as oldest
from by_user
group by key
order by status, events desc, last_received_at desc
limit $1
