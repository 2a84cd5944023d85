-- Stores the ends of attempts. When a change is delivered or dead, the next one of its user is due.
with result as (
    select r.transaction_id::xid8, r.id, r.outcome, r.reason, r.pause
    from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::interval[])
        as r (transaction_id, id, outcome, reason, pause)
),
stored as (
    update clerk_sync.changes as c
    set delivery = case result.outcome when 'failed' then 'pending' else result.outcome end,
        attempts = c.attempts + 1,
        reason = result.reason,
        next_attempt_at = case result.outcome when 'failed' then now() + result.pause end
    from result
    where c.transaction_id = result.transaction_id and c.id = result.id and c.delivery = 'pending'
    returning c.clerk_id, c.id, result.outcome
)
update clerk_sync.changes as c
set next_attempt_at = now()
from stored
where stored.outcome <> 'failed'
    and c.delivery = 'pending'
    and c.clerk_id = stored.clerk_id
    and c.id = (
        select later.id from clerk_sync.changes as later
        where later.clerk_id = stored.clerk_id and later.delivery = 'pending' and later.id > stored.id
        order by later.id
        limit 1
    )
