-- The users among these who are deleted now. Like current_identity, it takes a new snapshot; a call for each user would
-- take longer than the deletion of the rows.
create function clerk_sync.list_deleted(wanted text[]) returns text[]
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    return array(
        select i.clerk_id from clerk_sync.identities as i where i.clerk_id = any(wanted) and i.deleted_at is not null
    );
end
$$;

-- The function of one user does the same, and plans its statement with each call.
create function clerk_sync.forget_carried_rows(deleted_ids text[]) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    update clerk_sync.carry_overs set keys = '[]' where clerk_id = any(deleted_ids) and keys <> '[]';
    return true;
end
$$;
