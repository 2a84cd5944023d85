with mine as (
    select clerk_id
    from clerk_sync.identities
    where clerk_id = $1 and version = $2 and tie = $3 and address_wanted
    for update
),
shown as (
    update {table} as app
    set {email} = $4::text
    from mine
    where app.{clerk_id}::text = mine.clerk_id
        and not exists (
            select from {table} as other where {taken} and other.{clerk_id}::text is distinct from mine.clerk_id
        )
    returning app.{clerk_id}::text as clerk_id
),
noted as (
    update clerk_sync.identities as known set address_wanted = false from shown where known.clerk_id = shown.clerk_id
)
select exists (select from shown)
