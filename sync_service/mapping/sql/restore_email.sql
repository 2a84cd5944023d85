-- Shows a user's email on the row again, if no other row has it and the user still is at this version.
with pending as (
    select clerk_id
    from clerk_sync.identities
    where clerk_id = $1 and version = $2 and tiebreak = $3 and email_pending
    for update
),
shown as (
    update /*<table>*/public.users/*</table>*/ as app
    set /*<email>*/email/*</email>*/ = $4::text
    from pending
    where app./*<id_column>*/id/*</id_column>*/ = pending.clerk_id::/*<id_type>*/text/*</id_type>*/
        and app./*<id_column>*/id/*</id_column>*/::text = pending.clerk_id
        and not exists (
            select from /*<table>*/public.users/*</table>*/ as other
            where /*<other_has_email>*/other.email = $4::text/*</other_has_email>*/
                and other./*<id_column>*/id/*</id_column>*/::text is distinct from pending.clerk_id
        )
    returning app./*<id_column>*/id/*</id_column>*/::text as clerk_id
),
settled as (
    update clerk_sync.identities as known
    set email_pending = false
    from shown
    where known.clerk_id = shown.clerk_id
)
select exists (select from shown)
