-- Only where the app's table insists on a column that we cannot fill: PostgreSQL would refuse the row that is to be
-- inserted before it looked whether there is one to be updated.
updated as (
    update {table} as app
    set {assignments}
    from newest
    join joined using (clerk_id)
    cross join lateral jsonb_to_record({user_row}) as r ({definitions})
    where joined.deleted_at is null and app.{clerk_id} = newest.clerk_id::{id_type}
    returning app.{clerk_id}::text as known_id
),
