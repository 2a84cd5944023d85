-- The order of the change feed. A transaction that waits for another one's lock on a user writes its entry later, but may
-- have the smaller ID. So an entry has the ID of the newest transaction that has ended, if it is greater than its own.
create function clerk_sync.newest_transaction() returns xid8
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    -- A volatile function takes a new snapshot, which is as old as the entry, not as its statement.
    return greatest(
        pg_current_xact_id(), (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)::text::xid8
    );
end
$$;

alter table clerk_sync.changes alter column transaction_id set default clerk_sync.newest_transaction();
