-- The events of the last hours by hour and status. As in summary.sql, applied events are those of no other status. Each
-- hour is a range of an index: `date_trunc` for each event would take most of the time.
select
    hour,
    (
        select count(*) from clerk_sync.events
        where received_at >= hour and received_at < hour + interval '1 hour'
    ) as events,
    (
        select coalesce(json_object_agg(status, n), '{}')
        from (
            select status, count(*) as n from clerk_sync.events
            where status <> 'applied' and received_at >= hour and received_at < hour + interval '1 hour'
            group by status
        ) as others
    ) as others
from generate_series(
    date_trunc('hour', now()) - ($1::integer - 1) * interval '1 hour', date_trunc('hour', now()), interval '1 hour'
) as hour
order by hour
