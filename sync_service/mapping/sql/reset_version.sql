-- Lets the next snapshot be saved although its version is known: the application removed the row, or the row lacks its
-- email because of a conflict. Any snapshot is newer than version 0.
update clerk_sync.identities
set version = 0, tiebreak = ''
where clerk_id = $1 and version <= $2 and deleted_at is null
    and (email_pending or not exists (
        select from /*<table>*/public.users/*</table>*/ as app where app./*<id_column>*/id/*</id_column>*/::text = $1
    ))
