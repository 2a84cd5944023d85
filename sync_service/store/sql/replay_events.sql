-- One page of the events that a replay applies, the oldest first, after the event at ($4, $5); null is the start.
select id, type, instance_id, clerk_id, user_id, payload, received_at
from clerk_sync.events
where /*<conditions>*/true/*</conditions>*/
    and type = any($1::text[]) and (payload is not null or finished_at is null or type = any($2))
    and (received_at, id) > (coalesce($4::timestamptz, '-infinity'), $5::text)
order by received_at, id
limit $3
