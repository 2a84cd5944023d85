-- The input of apply_changes.sql for a single event, a sixth cheaper than arrays of one element. Its gaps are those of
-- apply_changes.sql. CTEs that are not materialized become parameters where they are read, and no sort is needed.
with /*<input>*/settings as materialized (
    select set_config('lock_timeout', $11, true), set_config('clerk_sync.unchanged', '', true)
),
input as not materialized (
    select
        $1::text as event_id, $2::text as type, $3::text as instance_id, $4::text as clerk_id, $5::text as kind,
        $6::bigint as version, $7::bytea as tiebreak, 1 as n, true as first
),
newest as not materialized (
    select * from input where kind = 'snapshot' and exists (select from settings)
)/*</input>*/
select newest.*, /*<payload>*/$8::jsonb/*</payload>*/, /*<user_row>*/$9::jsonb/*</user_row>*//*<owner>*/, $12::text/*</owner>*/, $10::text
from newest
