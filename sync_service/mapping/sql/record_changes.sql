-- Steps of the statements that write the app's table: each change is recorded by the statement that makes it. Without
-- recording they are left out. `row_before` and `row_after` have the mapped columns and the Clerk ID, in JSON.
with newest as (select $1::text as clerk_id),
joined as (
    insert into clerk_sync.identities as known (clerk_id, version, tiebreak, created_by)
    select clerk_id, 0, '', 'webhook' from newest
    on conflict (clerk_id) do update set version = excluded.version
    -- The user became known in this transaction, in this statement or in that of a link.
    returning clerk_id/*<is_new>*/, known.first_seen_at = now() as is_new/*</is_new>*/
),
found as (
    select newest.clerk_id/*<row_before>*/, to_jsonb(row(/*<content>*/app.banned, app.id/*</content>*/)) as row_before/*</row_before>*/
    from newest
    join joined using (clerk_id)
    join public.users as app on app.id = newest.clerk_id
    for update of app
),
updated as (
    update public.users as app
    set banned = app.banned
    from newest join found using (clerk_id)
    where app.id = newest.clerk_id
    returning app.id as updated_id/*<updated_row>*/,
        to_jsonb(app./*<key>*/id/*</key>*/) as app_key, found.row_before::text as row_before,
        to_jsonb(row(/*<content>*/app.banned, app.id/*</content>*/)) as row_after/*</updated_row>*/
),
saved as (
    insert into public.users as app (id, email_verified, banned, locked, public_metadata)
    select clerk_id, true, true, true, '{}' from newest
    on conflict (id) do update set banned = app.banned
        where app.banned is not null/*<remember>*/
            -- RETURNING knows only the new row. This condition is evaluated on the old one after its lock, and before
            -- the new one is returned. A look at the table beforehand could miss a row that another transaction writes.
            and set_config('clerk_sync.row_before', to_jsonb(row(/*<content>*/app.banned, app.id/*</content>*/))::text, true) is not null/*</remember>*/
    returning app.id as saved_id/*<saved_row>*/,
        to_jsonb(app./*<key>*/id/*</key>*/) as app_key, current_setting('clerk_sync.row_before', true) as row_before,
        to_jsonb(row(/*<content>*/app.banned, app.id/*</content>*/)) as row_after/*</saved_row>*/
),
written as (
    select saved_id/*<row_columns>*/, app_key, row_before, row_after/*</row_columns>*/ from saved
),
changed as (
    update public.users as app
    set banned = app.banned
    returning app.id as clerk_id/*<row_after>*/,
        to_jsonb(app./*<key>*/id/*</key>*/) as app_key,
        to_jsonb(row(/*<content>*/app.banned, app.id/*</content>*/)) as row_after/*</row_after>*/
)/*<record>*/,
recorded as (
    insert into clerk_sync.changes (type, clerk_id, app_key, columns/*<delivery>*/, delivery, next_attempt_at/*</delivery>*/)
    select
        /*<change_entity>*/'user'/*</change_entity>*/ || case when change.is_new and change.row_before is null then '.created' else '.updated' end,
        change.clerk_id, change.app_key, differing.columns/*<pending>*/, 'pending', now()/*</pending>*/
    from /*<change>*/(
        select joined.clerk_id, joined.is_new, app_key, row_after,
            -- An inserted row has none: the setting is then of an earlier row.
            case when row_before::jsonb -> /*<id_field>*/'f2'/*</id_field>*/ = row_after -> /*<id_field>*/'f2'/*</id_field>*/ then row_before::jsonb end as row_before
        from (
            select saved_id, app_key, nullif(row_before, '') as row_before, row_after
            from written
            where row_before is distinct from row_after::text
        ) as written
        -- In the other order PostgreSQL would write the JSON as a text again for each pair of users.
        cross join lateral (
            select clerk_id, is_new from joined
            where joined.clerk_id::/*<id_type>*/text/*</id_type>*/ = written.saved_id
            offset 0
        ) as joined
        -- Else PostgreSQL reads the JSON again for each column.
        offset 0
    )/*</change>*/ as change
    cross join lateral (
        select array_agg(name order by n)
        from unnest(/*<column_names>*/'{banned,id}'/*</column_names>*/::text[]) with ordinality as c (name, n)
        where change.row_before -> ('f' || n) is distinct from change.row_after -> ('f' || n)
    ) as differing (columns)
    -- The time of a change alone is no change.
    where differing.columns && /*<content_names>*/'{banned,id}'/*</content_names>*/::text[]/*<unless_deleted>*/
        and not exists (select from clerk_sync.recorded_deletions as known where known.clerk_id = change.clerk_id)/*</unless_deleted>*/
    order by change.clerk_id
)/*</record>*/
select from written
