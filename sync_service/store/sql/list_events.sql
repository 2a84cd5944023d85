-- One page of events, the newest first, after the event at ($2, $3); null is the start.
select id, type, clerk_id, status, reason, attempts, received_at, next_attempt_at, finished_at
from clerk_sync.events
where /*<conditions>*/true/*</conditions>*/
    and (received_at, id) < (coalesce($2::timestamptz, 'infinity'), $3::text)
order by received_at desc, id desc
limit $1
