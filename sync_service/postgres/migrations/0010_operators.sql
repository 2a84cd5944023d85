-- One row for each action of an operator. `subject` is the ID of an event or a user, or a filter; never a person.
create table clerk_sync.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    who text not null constraint an_action_comes_from_the_page_the_api_or_a_command
        check (who in ('page', 'api', 'command')),
    action text not null,
    subject text not null
);

-- A dry run that the operators' interface starts has a row, too, because its report is read later.
alter table clerk_sync.reconciles add column dry_run boolean not null default false;

-- Users first created by a login, because their webhook had not arrived.
create index identities_created_by_login on clerk_sync.identities (clerk_id) where created_by in ('login', 'profile');

-- Lists of events by one property, newest first. Most events are applied; a list of these reads events_newest_first.
-- Without the ID, which only orders events of one microsecond, the second index costs a webhook half as much.
create index events_by_status on clerk_sync.events (status, received_at) where status <> 'applied';
create index events_by_type on clerk_sync.events (type, received_at);
create index events_by_reason on clerk_sync.events (reason, received_at) where reason is not null;
