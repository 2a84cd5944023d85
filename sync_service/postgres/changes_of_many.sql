-- Many events, as arrays; see changes.sql. The two long ones are looked into where they are written, by number, and not
-- carried through every step in between: copying them was a tenth of all that PostgreSQL did.
with input as (
    select i.*, row_number() over (partition by event_id order by n) = 1 as first
    from
        -- How long to wait for a lock, in this transaction only: a setting of the session would be lost in a pooler.
        (select set_config('lock_timeout', $11, true)) as patience,
        unnest(
            -- In brackets, so that the planner does not look into the arrays: a plan for any of them then costs no more
            -- than one for these, and after five times PostgreSQL plans no more (planning takes longer than the rest).
            (select $1::text[]), (select $2::text[]), (select $3::text[]), (select $4::text[]), (select $5::text[]),
            (select $6::bigint[]), (select $7::bytea[])
        ) with ordinality as i (event_id, type, instance_id, clerk_id, kind, version, tie, n)
),
newest as (
    select distinct on (clerk_id) *
    from input
    where kind <> 'none'
    order by clerk_id, kind, version desc, tie desc  -- a deletion before any snapshot
),
