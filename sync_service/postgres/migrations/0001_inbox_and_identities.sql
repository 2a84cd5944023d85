-- The inbox: every genuine message of Svix, by its ID.
create table clerk_sync.events (
    id text constraint an_event_is_known_by_its_svix_id primary key,
    type text not null,
    clerk_id text,
    instance_id text,
    status text not null
        constraint a_status_is_one_of_five check (status in ('applied', 'stale', 'ignored', 'failed', 'dead')),
    -- Why it failed last: the class of the fault, in PostgreSQL's own words or ours. Never a value.
    reason text,
    attempts integer not null default 1,
    -- Every attempt that failed, for the operators: {"at", "reason", "table", "column", "constraint"}.
    failures jsonb not null default '[]',
    -- Clerk's user, without its private and unsafe metadata; gone with the user, or when retention ends.
    payload jsonb,
    received_at timestamptz not null default now(),
    next_attempt_at timestamptz,
    finished_at timestamptz,
    constraint only_a_failed_event_has_a_next_attempt check ((status = 'failed') = (next_attempt_at is not null)),
    constraint only_a_failed_or_dead_event_is_unfinished check ((status in ('failed', 'dead')) = (finished_at is null))
);

create index events_of_a_user on clerk_sync.events (clerk_id, received_at);
create index events_to_try_again on clerk_sync.events (next_attempt_at) where status = 'failed';
create index events_newest_first on clerk_sync.events (received_at, id);
create index events_with_a_payload_to_drop on clerk_sync.events (finished_at) where payload is not null;

-- What is known of a Clerk ID. A tombstone keeps the ID and its times, nothing else.
create table clerk_sync.identities (
    clerk_id text constraint an_identity_is_known_by_its_clerk_id primary key,
    -- Clerk's data.updated_at in milliseconds, and a digest that tells apart two snapshots of one millisecond.
    version bigint,
    tie bytea,
    deleted_at timestamptz,
    -- Who told of the user first: webhook, login, reconcile, replay.
    created_by text not null,
    -- The row shows no address, for a newer user has it; it is shown again once it is free.
    address_wanted boolean not null default false,
    -- Two contents of one instant were told: only Clerk knows which is right.
    refetch_wanted boolean not null default false,
    first_seen_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    constraint an_identity_has_a_version_or_is_deleted
        check ((deleted_at is null and version is not null and tie is not null)
            or (deleted_at is not null and version is null and tie is null))
);

create index identities_that_want_an_address on clerk_sync.identities (clerk_id) where address_wanted;

-- The Clerk instance whose events are taken, where no setting names it: the first one seen.
create table clerk_sync.instance (
    only_one boolean primary key default true constraint there_is_one_instance check (only_one),
    id text not null,
    pinned_at timestamptz not null default now()
);
