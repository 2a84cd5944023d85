-- Steps that record the deletion of a user, its deferral with a mark on the row, and its end by an operator. Each is
-- recorded once: a backup may bring the row back, which is then deleted again.
with doomed as (
    select id as clerk_id/*<doomed_key>*/, to_jsonb(/*<key>*/id/*</key>*/) as change_key/*</doomed_key>*/ from public.users
),
gone as (select id as clerk_id from public.users),
restored as (select id as clerk_id from public.users),
unmarked as (
    update public.users set banned = banned
    returning 1/*<unmarked_key>*/, to_jsonb(/*<key>*/id/*</key>*/) as app_key/*</unmarked_key>*/
)/*<record_deletion>*/,
newly_deleted as (
    insert into clerk_sync.recorded_deletions (clerk_id, type)
    select wanted.clerk_id, /*<change_type>*/'user.deleted'/*</change_type>*/
    from (select distinct unnest($1::text[]) as clerk_id) as wanted
    cross join lateral clerk_sync.current_identity(wanted.clerk_id) as known
    where (select count(*) from gone) is not null
        and known.deleted_at is not null
        and (
            exists (select from gone where gone.clerk_id = wanted.clerk_id)
            -- The app itself has removed the row. A user whom a deletion made known never had one.
            or /*<is_final>*/true/*</is_final>*/ and known.first_seen_at < known.deleted_at
        )
    order by wanted.clerk_id
    on conflict (clerk_id, type) do nothing
    returning clerk_id
),
recorded as (
    insert into clerk_sync.changes (type, clerk_id, app_key/*<delivery>*//*</delivery>*/)
    select
        /*<change_type>*/'user.deleted'/*</change_type>*/, newly_deleted.clerk_id,
        coalesce(
            (select change_key from doomed where doomed.clerk_id = newly_deleted.clerk_id limit 1),
            (
                select earlier.app_key from clerk_sync.changes as earlier
                where earlier.clerk_id = newly_deleted.clerk_id
                order by earlier.id desc
                limit 1
            )
        )/*<pending>*//*</pending>*/
    from newly_deleted
    order by newly_deleted.clerk_id
)/*</record_deletion>*//*<record_restoration>*/,
no_longer_deleted as (
    delete from clerk_sync.recorded_deletions as known
    using restored
    where known.clerk_id = restored.clerk_id
    returning known.clerk_id
),
recorded_again as (
    insert into clerk_sync.changes (type, clerk_id, app_key/*<delivery>*//*</delivery>*/)
    select /*<change_entity>*/'user'/*</change_entity>*/ || '.restored', clerk_id, (select app_key from unmarked limit 1)/*<pending>*//*</pending>*/
    from (select distinct clerk_id from no_longer_deleted) as user_again
)/*</record_restoration>*/
select from doomed
