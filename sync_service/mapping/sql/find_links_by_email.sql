-- The rows that link_rows_by_email.sql would link: of unknown users ($1), by their verified emails ($2). Several rows
-- with one email are no link.
select
    wanted.clerk_id,
    min(other./*<key>*/id/*</key>*/::text) as key,
    count(*) > 1 as is_ambiguous
from unnest($1::text[], $2::text[]) as wanted (clerk_id, email)
join /*<table>*/public.users/*</table>*/ as other
    on lower(other./*<link_column>*/email/*</link_column>*/::text) = lower(wanted.email)
    and lower(other./*<link_column>*/email/*</link_column>*/::text collate pg_catalog."C")
        = lower(wanted.email collate pg_catalog."C")
where not exists (select from clerk_sync.identities as known where known.clerk_id = wanted.clerk_id)
group by wanted.clerk_id
having bool_or(other./*<id_column>*/id/*</id_column>*/ is null)
order by wanted.clerk_id
