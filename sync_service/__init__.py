"""Keeps an application's own PostgreSQL `users` table in sync with Clerk.

The module map, from the bottom, in reading order. A module imports only modules above it in this list.
tests/test_package_map.py compares the list with the imports.

    errors                      error types: the party at fault, and whether a retry helps
    request_errors              errors of the caller's request
    operator_errors             error types of the operators' interface
    terminal                    text without control sequences
    dsn                         a database URL of a platform → a DSN for asyncpg
    dsn_check                   checks a DSN with the parser of asyncpg
    parsers                     the text of one setting → its value
    big_integers                integers in JSON that JavaScript cannot read exactly
    documentation               the documentation pages

    clerk.entities              users, sessions, organizations, memberships: their events and parents
    clerk.resource              fields of all objects of Clerk, and a session
    clerk.user                  Clerk's user
    clerk.json_repair           replaces values that cannot be stored
    clerk.change                a snapshot of an object, its version, a deletion
    clerk.objects               the JSON of an object in an event → its change, the JSON to store
    clerk.events                the body of a webhook → an event
    clerk.stored_events         a row of the inbox → the event again
    clerk.webhook_signature     headers and body → the message's ID
    clerk.limited_client        reads responses up to a limit
    clerk.observed_client       reports requests to Clerk's Backend API
    clerk.circuit_breaker       pauses requests to Clerk after failures
    clerk.rate_limit            limits requests to Clerk
    clerk.backend_api           URLs and headers of Clerk's Backend API
    clerk.key_set               the JSON of a key set → public keys and their instances
    clerk.instance_lookup       the instance of a key, for the doctor
    clerk.responses             responses of the API → a user, a count, a pause
    clerk.client                requests through one circuit breaker
    clerk.list_requests         requests for lists, within the quota and in spite of failures
    clerk.user_list             lists of users
    clerk.user_walk             a walk over all users by cursor
    clerk.related_list          lists of organizations and memberships
    clerk.related_walk          a walk over all of them by offset
    clerk.jwks                  gets the public keys of session tokens, and caches them
    clerk.session_token_rules   the rules of session tokens
    clerk.session_tokens        a session token → its user
    clerk.masking               hides the personal values of a user
    clerk.samples               sample users in Clerk's format
    clerk.related_samples       sample sessions, organizations and memberships of a user
    clerk.sample_events         sample events
    clerk.event_types           the event types of Clerk, and misspelt ones

    postgres.errors             errors of asyncpg and the network → DatabaseError
    postgres.hosts              connects to the primary among several hosts
    postgres.pool               connections
    postgres.limited_read       a read-only transaction with limits
    postgres.limited_access     a part of the pool, so that others keep the rest
    postgres.sql                SQL files, their gaps, quoting
    postgres.migrate            brings the schema clerk_sync up to date
    postgres.lock_waits         the lock that a connection waits for

    mapping.paths               paths in Clerk's JSON
    mapping.generators          generates keys for new rows
    mapping.computed_values     values computed from Clerk's user
    mapping.fields              the source of one column's value
    mapping.table_names         names of tables and columns in `sync.toml`
    mapping.carry_over          a table for data from before sign-up
    mapping.table               the mapping of one table
    mapping.presets             complete mappings by name
    mapping.column_entries      one entry of a column → its source
    mapping.carry_over_entries  the tables below `[carry_over]`
    mapping.section             one table of `sync.toml` → the fields of its mapping
    mapping.toml                the text of `sync.toml` → a mapping
    mapping.introspection       a table from PostgreSQL's catalogue
    mapping.obstacles           rules, defaults and missing indexes that refuse users
    mapping.coercion            a value → the form that a column takes
    mapping.fixed_values        checks of constants and generated values
    mapping.issues              one issue of a mapping with its table
    mapping.column_checks       the issues of columns and deletion marks
    mapping.validation          the issues of a mapping with its table
    mapping.binding             mapping and table → a bound mapping
    mapping.email_policy        the rules for the primary email
    mapping.unique_rules        unique indexes on values that Clerk gives to one user
    mapping.assignments         SQL for the values of an insert and an update
    mapping.deletion_marks      SQL that marks deleted users, and removes the marks
    mapping.change_recording    SQL that records changes, as parts of the statements that make them
    mapping.deletion_queries    SQL for the row of a deleted user
    mapping.link_queries        SQL that links rows from before Clerk
    mapping.child_queries       SQL between parents and their sessions or memberships
    mapping.queries             a bound mapping → its SQL
    mapping.table_binding       binds lazily, and again after the table has changed
    mapping.carried_values      a value of a visitor, and the columns that take it
    mapping.carry_over_checks   the issues of a table for carry-overs
    mapping.carry_over_queries  SQL for the rows of a carry-over
    mapping.creation            creates the table of a preset

    suggest.names               words in the names of tables and columns
    suggest.overview            all tables of the app, columns with Clerk IDs
    suggest.overview_reader     reads them
    suggest.clerk_ids           the column of the Clerk ID
    suggest.links               a table between users and Clerk IDs
    suggest.source_names        names of columns that show Clerk's user
    suggest.evidence            the facts about the users table
    suggest.rules               a decision about one column
    suggest.key_formats         existing keys → their generator
    suggest.keys                the key of a new row
    suggest.times               times of the app's row
    suggest.sources             the rules of these columns
    suggest.tables              the users table among all tables
    suggest.labels              the category of a new user
    suggest.fillers             values that the app's ORM fills
    suggest.columns             the decision about each column
    suggest.deletion            the app's own way to delete a user
    suggest.related_sources     columns of sessions, organizations and memberships
    suggest.row_facts           SQL for the facts about rows
    suggest.rows                reads the facts about the users table
    suggest.related             their tables among all tables
    suggest.toml_syntax         entries, values and comments of a `sync.toml`
    suggest.rendering           decisions → the text of a `sync.toml`
    suggest.lookup              finds a users table beside the default one

    settings                    the environment → settings
    process                     the end of this process with its parent, its garbage collection
    log_file                    the file of the log lines, lost lines
    logs                        one line per event, without personal data
    tracing                     OpenTelemetry traces, with the extra `otel`

    store.access                a connection together with the queries of the table
    store.rows                  the row of a snapshot, the reasons why its table refuses it
    store.changes               applies and files snapshots, parks events
    store.deletions             the steps of a deletion, its cancellation
    store.family                rows of parents and of their children
    store.email_claims          claims of two users to one unique value
    store.feed                  the change feed in its order, retention
    store.deliveries            deliveries of changes to the app, as a queue
    store.carry_overs           the records of carry-overs
    store.carried_rows          the rows of carry-overs in the app's tables
    store.links                 links rows from before Clerk to their users
    store.identities            state of a user, keys of many users, leases
    store.retry_queue           events that are due, retention
    store.event_filter          a selection of events
    store.event_cursor          the place of an event in a list
    store.events                the inbox for operators
    store.remedies              the remedy of each reason of a failed event
    store.failure_groups        failed and dead events by their cause
    store.summary               the state of the inbox in figures
    store.user_history          the state and the history of one user
    store.search                events and users by an ID or an email
    store.audit                 the actions of operators
    store.comparison            users that differ from their rows, and users that may be deleted
    store.reconciles            the runs of the reconcile, one at a time
    store.figures               figures for the metrics
    store.rehearsal             changes in a transaction that is rolled back

    sync.outcome                the result of one event
    sync.change_signal          wakes readers of the change feed
    sync.notification           body, signature and pauses of one notification
    sync.notifier               posts committed changes to the app
    sync.recovery               the table of actions after a failure
    sync.park                   stores events that cannot be applied now
    sync.email_conflict         decides which of two users shows a unique value
    sync.parents                events that wait for their parents
    sync.commit                 commits one batch
    sync.children               deletes the sessions and memberships of deleted parents
    sync.isolation              commits a batch in spite of failures of single events
    sync.apply                  the only way to write a row: events → their tables
    sync.batch                  group commit of waiting webhooks
    sync.ordered_work           works on several items, yields the results in order
    sync.preview                the change that a replay would make
    sync.replay                 replays of stored events
    sync.user_fetch             asks Clerk about one user, and applies the response
    sync.refresh                refreshes users, single flight
    sync.login                  the row of a user who signs in
    sync.carry_over             writes data from before sign-up
    sync.carry_over_removal     rolls a carry-over back
    sync.user_actions           refresh and restore of one user
    sync.drift_report           the report of a reconcile, and the limit on its deletions
    sync.child_comparison       compares sessions and memberships with their rows
    sync.row_repair             writes the rows that differ from Clerk
    sync.unseen_objects         deletes objects that Clerk no longer has
    sync.run_record             the report and the checkpoint of a run
    sync.inbox_restore          writes the last states in the inbox again
    sync.related_reconcile      compares organizations and memberships with their tables
    sync.user_reconcile         compares users with the table
    sync.reconcile              one run: its key, its order, its errors
    sync.reconcile_schedule     runs the reconcile at its intervals
    sync.reconcile_request      starts a run for an operator
    sync.session_retention      deletes the rows of old sessions
    sync.maintenance            retries, long deletions, retention

    doctor.findings             a finding: problem, reason, correction
    doctor.introspection        catalogue queries
    doctor.counts               count queries within a time limit
    doctor.user_counts          counts of the users table
    doctor.inbox_counts         counts of the inbox
    doctor.reference_counts     counts of the tables below it
    doctor.fixes                building blocks of safe statements
    doctor.column_fixes         statements for columns
    doctor.index_fixes          statements for indexes
    doctor.foreign_key_fixes    statements for foreign keys
    doctor.grant_fixes          statements for privileges
    doctor.link_fixes           statements that copy Clerk IDs from another table
    doctor.hints                facts from the rows for the corrections
    doctor.required_columns     the line or default that fills a column
    doctor.clerk_keys           checks of the Clerk keys
    doctor.server               checks of the database
    doctor.table_fixes          the correction of each mapping issue
    doctor.table                checks of the users table against its mapping
    doctor.columns              checks of its columns
    doctor.carry_over           checks of the tables for carry-overs
    doctor.app_rules            checks against the app's own ways
    doctor.foreign_key_graph    the foreign keys below it, as a graph
    doctor.foreign_key_indexes  checks of their indexes
    doctor.deletion_cost        the cost of deleting a user
    doctor.foreign_keys         checks of the foreign keys
    doctor.user_join            the rows of the app with the name and the email of their user
    doctor.user_references      columns with a name that refers to a user
    doctor.missing_foreign_keys checks of columns that lack one
    doctor.references           reads and counts these references, and checks them
    doctor.user_stats           report on the users table
    doctor.inbox                checks of the inbox
    doctor.family               checks between the tables of parents and children
    doctor.older_rows           rows that are older than the bookkeeping
    doctor.drift                checks of missing rows, older rows and the last reconcile
    doctor.run                  runs all checks
    doctor.rules                the meanings of their codes
    doctor.sarif                findings → a SARIF log

    dev.binaries                PostgreSQL binaries on this machine
    dev.access                  restricts an embedded server of root to root
    dev.embedded                runs a PostgreSQL server for `dev` and the tests
    dev.state                   the folder `.sync-service/`
    dev.issuer                  signs session tokens that `dev` trusts
    dev.output                  ends `dev` when the reader of its output has gone

    web.operation               the description of one route
    web.problems                errors → problem details (RFC 9457)
    web.limits                  time limits of a request
    web.body                    request bodies: limits, JSON
    web.health                  GET /healthz, GET /readyz
    web.metrics.shared_folder   the folder where processes add up their metrics
    web.metrics.families        counters, histograms and gauges
    web.metrics.process_gauges  connections, and requests to Clerk
    web.metrics.database_figures  figures from the database
    web.metrics.endpoint        GET /metrics
    web.middleware              IDs and a log line for each request
    web.webhooks                POST /webhooks/clerk
    web.rows                    rows and keys in responses
    web.auth                    service token or session token
    web.carry_over              the form and the limits of a carry-over
    web.sync_request            the body and the parameters of POST /sync
    web.sync                    POST /sync
    web.users                   GET /users/{clerk_id}, POST /users/resolve
    web.ops.sessions            the signed cookie of the operators' page
    web.ops.login_limit         the limit on failed logins
    web.ops.auth                the operators' token or the page's cookie
    web.ops.parameters          query parameters → filters
    web.changes                 GET /changes
    web.ops.context             the objects that the routes share
    web.ops.events              GET /ops/events, GET /ops/events/{id}
    web.ops.replays             POST /ops/events/{id}/replay, POST /ops/replay
    web.ops.users               /ops/users
    web.ops.summary             /ops/summary
    web.ops.reconciles          /ops/reconcile
    web.ops.audit               /ops/audit
    web.ops.deliveries          /ops/changes
    web.ops.routes              the routes of the operators' interface
    web.ops.page.chart          events of the last hours → rectangles
    web.ops.page.rendering      HTML from templates, and its headers
    web.ops.page.views          overview, events, users, reconcile, audit, documentation
    web.ops.page.actions        search, previews, replays, and other forms
    web.ops.page.routes         the routes of the page, its login and its errors
    web.openapi                 operations → an OpenAPI document
    web.routes                  all routes, and GET /openapi.json
    web.components              parts of the app that depend on the settings
    web.app                     settings → the ASGI app
    web.connections             limits on connections and their bodies, for each peer
    web.transport               one packet per response
    web.limited_connection      one connection: its deadlines and its last response
    web.request_line            the first line of a request: its method, its path
    web.protocol                the requests of a connection: limits on their size, HTTP/1.1
    web.listener                the listening sockets of HOST and PORT
    web.server                  runs uvicorn

    cli.global_options          `--version`, `--print-completion`
    cli.program                 the command that starts this program
    cli.network_errors          sentences for errors of connections
    cli.arguments               parsing and formatting that commands share
    cli.database                a connection for one command
    cli.lock_waits              tells the user that a command waits for a lock
    cli.output_file             the file that a command writes
    cli.serve                   `serve`
    cli.migrate                 `migrate`
    cli.dev                     `dev`
    cli.send                    `send`
    cli.token                   `token`
    cli.replay                  `events replay`
    cli.events                  `events list`, `events show`
    cli.changes                 `changes list`, `changes replay`
    cli.carry_overs             `carry-overs list`, `carry-overs show`, `carry-overs roll-back`
    cli.reconcile_progress      the progress of `reconcile`
    cli.reconcile_report        the report of `reconcile`
    cli.reconcile_run           one run of `reconcile`
    cli.reconcile               `reconcile`
    cli.docs                    `docs`
    cli.doctor                  `doctor`
    cli.mapping_tables          `mapping tables`
    cli.mapping                 `mapping suggest`, `mapping tables`
    cli.refresh                 `users refresh`
    cli.users                   `users show`, `users restore`
    cli.openapi                 `openapi`
    cli                         the command line
    __main__                    the process

Folders, from the bottom: clerk, postgres, mapping, suggest, store, sync, doctor, dev, web, cli.
"""
