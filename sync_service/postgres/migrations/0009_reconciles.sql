-- One row for each run of the reconcile, with the counts of its report.
create table clerk_sync.reconciles (
    id bigint generated always as identity primary key,
    mode text not null constraint a_run_has_a_known_mode check (mode in ('full', 'recent', 'inbox')),
    started_at timestamptz not null default now(),
    finished_at timestamptz,
    pages bigint not null default 0,
    users bigint not null default 0,
    missing bigint not null default 0,
    stale bigint not null default 0,
    differing bigint not null default 0,
    deleted bigint not null default 0,
    repaired bigint not null default 0,
    refused bigint not null default 0,
    failed bigint not null default 0,
    columns jsonb not null default '{}',
    -- The creation time, in milliseconds, up to which the walk has come. Null once the walk is complete.
    checkpoint bigint,
    error text
);
