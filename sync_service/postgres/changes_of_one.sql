-- One event, as values; see changes.sql. What is not materialized is put in as parameters wherever it is read, and
-- nothing has to be sorted then.
with patience as materialized (
    select set_config('lock_timeout', $11, true)
),
input as not materialized (
    select
        $1::text as event_id, $2::text as type, $3::text as instance_id, $4::text as clerk_id, $5::text as kind,
        $6::bigint as version, $7::bytea as tie, 1 as n, true as first
),
newest as not materialized (
    select * from input where kind <> 'none' and exists (select from patience)
),
