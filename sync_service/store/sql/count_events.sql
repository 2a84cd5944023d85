-- The number of events that a replay applies, and the time of the count. A replay ends there, whatever arrives
-- meanwhile. An event that is finished and has lost its payload cannot be applied again.
select count(*) as events, clock_timestamp() as counted_at
from clerk_sync.events
where /*<conditions>*/true/*</conditions>*/
    and type = any($1::text[]) and (payload is not null or finished_at is null or type = any($2))
