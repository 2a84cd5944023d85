-- Sessions that ended, or would have ended, longer ago than $1. Without such a time in the row, Clerk's last change counts.
select child./*<id_column>*/id/*</id_column>*/::text as clerk_id
from /*<table>*/public.users/*</table>*/ as child
join clerk_sync.identities as known on known.clerk_id = child./*<id_column>*/id/*</id_column>*/::text
where known.deleted_at is null
    and coalesce(/*<end>*//*</end>*/to_timestamp(known.version / 1000.0)) < now() - $1::interval
limit $2
