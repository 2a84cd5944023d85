-- Users whom a deletion may concern, by Clerk ID: identities that existed before the run, and rows of deleted users, such
-- as a restored backup brings back. An operator has restored the others for good.
select identity.clerk_id
from clerk_sync.identities as identity
where identity.clerk_id > $1 and identity.entity = /*<entity_name>*/'user'/*</entity_name>*/
    and case
        when identity.deleted_at is null then identity.restored_at is null and identity.first_seen_at < $2
        else identity.deleted_at < now() - $3::interval
            and exists (
                select from /*<table>*/public.users/*</table>*/ as theirs
                where theirs./*<id_column>*/id/*</id_column>*/ = identity.clerk_id::/*<id_type>*/text/*</id_type>*/
                    and not (/*<is_marked>*/false/*</is_marked>*/)
                offset 0
            )
    end
order by identity.clerk_id
limit $4
