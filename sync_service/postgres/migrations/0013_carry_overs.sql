-- Data from before sign-up that POST /sync has brought. The ID is that of the visit, and a repeat is recognised by it for
-- ever. The rows themselves are in the tables of the app; a record has their primary keys and no other value.
create table clerk_sync.carry_overs (
    id text constraint a_carry_over_is_known_by_the_id_of_its_visit primary key,
    clerk_id text not null,
    status text not null constraint a_carry_over_is_pending_completed_failed_or_rolled_back
        check (status in ('pending', 'completed', 'failed', 'rolled_back')),
    -- The class of the error: PostgreSQL's name of it, or one of the service's own. Never a value.
    reason text,
    -- The refused row: {"table", "row", "column", "constraint", "function"}. `row` is its number in the request.
    failure jsonb,
    -- The rows written, in their order: {"schema", "table", "key"}. `key` is null in a table without a primary key.
    keys jsonb not null default '[]',
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    rolled_back_at timestamptz,
    constraint only_a_pending_carry_over_is_unfinished check ((status = 'pending') = (finished_at is null)),
    constraint only_a_carry_over_that_is_rolled_back_has_the_time_of_it
        check ((status = 'rolled_back') = (rolled_back_at is not null))
);

create index carry_overs_of_a_user on clerk_sync.carry_overs (clerk_id);
create index carry_overs_newest_first on clerk_sync.carry_overs (created_at, id);

-- The primary key of a row may contain a value of the user. A statement of its own sees a carry-over that was committed
-- while the deletion waited for the lock on the user's row.
create function clerk_sync.forget_carried_rows(deleted_id text) returns boolean language sql as $$
    update clerk_sync.carry_overs set keys = '[]' where clerk_id = deleted_id and keys <> '[]';
    select true;
$$;
