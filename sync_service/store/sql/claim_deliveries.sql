-- Leases deliveries that are due. Only the first pending one of a user is sent; a later one waits until the first is at
-- its end, so that it is not looked at again and again.
with due as (
    select
        c.transaction_id, c.id,
        (
            select first.next_attempt_at
            from clerk_sync.changes as first
            where first.clerk_id = c.clerk_id and first.delivery = 'pending' and first.id < c.id
            order by first.id
            limit 1
        ) as blocked_until
    from clerk_sync.changes as c
    where c.delivery = 'pending' and c.next_attempt_at <= now()
    order by c.next_attempt_at
    limit $1
    for update skip locked
)
update clerk_sync.changes as c
set next_attempt_at = case
        when due.blocked_until is null then now() + $2::interval
        -- The first one is on its way, or it waits for its next attempt.
        when due.blocked_until <= now() + $2::interval then now() + interval '2 seconds'
        else due.blocked_until
    end
from due
where c.transaction_id = due.transaction_id and c.id = due.id
returning
    due.blocked_until is null as is_first,
    c.transaction_id::text, c.id, c.type, c.clerk_id, c.app_key::text, c.columns, c.at, c.attempts
