-- Failed and dead events, grouped by their last failure. The examples are the newest ones.
with waiting as (
    select
        status, type, reason, id, clerk_id, received_at,
        failures -> -1 ->> 'table' as table_name,
        failures -> -1 ->> 'column' as column_name,
        failures -> -1 ->> 'constraint' as constraint_name
    from clerk_sync.events
    where status in ('failed', 'dead')
)
select
    status, type, reason, table_name, column_name, constraint_name,
    count(*) as events,
    count(distinct clerk_id) as users,
    min(received_at) as first_received_at,
    max(received_at) as last_received_at,
    (array_agg(id order by received_at desc, id desc))[1:5] as examples
from waiting
group by status, type, reason, table_name, column_name, constraint_name
order by status, events desc, last_received_at desc
limit $1
