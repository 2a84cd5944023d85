-- An event costs less disk and less of the write-ahead log. A payload of usual length is compressed, too, which halves it.
-- All values stay in their row: PostgreSQL would first move the shortest texts out of it, each with an index entry. lz4
-- takes no more time than it saves; servers without it use pglz.
alter table clerk_sync.events
    alter column id set storage main,
    alter column "type" set storage main,
    alter column clerk_id set storage main,
    alter column instance_id set storage main,
    alter column status set storage main,
    alter column reason set storage main,
    alter column failures set storage main,
    alter column payload set storage main,
    alter column user_id set storage main,
    alter column waiting_for set storage main;
alter table clerk_sync.events reset (toast_tuple_target);

do $$
begin
    if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any(enumvals)) then
        alter table clerk_sync.events alter column payload set compression lz4;
    end if;
end
$$;

-- Free space on each page keeps a new version of a row beside the old one, and no index changes.
alter table clerk_sync.identities set (fillfactor = 85);

-- The order of events of one microsecond needs no index.
create index events_by_time on clerk_sync.events (received_at);
drop index clerk_sync.events_newest_first;

-- A user has few events, which are sorted when they are read. Equal entries without a time share one place.
create index events_by_user on clerk_sync.events (clerk_id);
drop index clerk_sync.events_of_a_user;

-- Nearly all events are of three types. A list of these reads events_by_time.
create index events_by_rare_type on clerk_sync.events (type, received_at)
    where type not in ('user.created', 'user.updated', 'session.created');
drop index clerk_sync.events_by_type;
