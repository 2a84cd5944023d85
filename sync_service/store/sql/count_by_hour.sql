-- The events of the last hours by hour and status. As in summary.sql, applied events are those of no other status.
with hours as (
    select generate_series(
        date_trunc('hour', now()) - ($1::integer - 1) * interval '1 hour', date_trunc('hour', now()), interval '1 hour'
    ) as hour
),
received as (
    select date_trunc('hour', received_at) as hour, count(*) as n
    from clerk_sync.events
    where received_at >= (select min(hour) from hours)
    group by 1
),
others as (
    select hour, jsonb_object_agg(status, n) as statuses, sum(n)::bigint as n
    from (
        select date_trunc('hour', received_at) as hour, status, count(*) as n
        from clerk_sync.events
        where status <> 'applied' and received_at >= (select min(hour) from hours)
        group by 1, 2
    ) as counted
    group by hour
)
select hour, coalesce(received.n, 0) - coalesce(others.n, 0) as applied, coalesce(statuses, '{}')::text as others
from hours
left join received using (hour)
left join others using (hour)
order by hour
