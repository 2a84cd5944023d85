"""Keeps an application's own PostgreSQL `users` table true to Clerk.

The house, from the ground up, in reading order. A room imports only from rooms above it in this list, and
tests/test_house.py holds the list against the imports.

    errors               what can go wrong, as types; whose fault it is, whether trying again helps
    dsn                  a database address as platforms print it, made into one that connects
    settings             the environment, read once from a mapping
    process              a process that ends with the one that started it
    logs                 one line an event; never a person, never a secret
    clerk.values         Clerk's user; a snapshot, a deletion, a version
    clerk.events         the body of a webhook → an event
    clerk.signature      whether it is genuine
    clerk.samples        events as Clerk sends them, to try things with
    mapping              Clerk's user → a row of the app's table
    postgres.faults      what PostgreSQL raises → whose fault it is
    postgres.pool        connections
    postgres.inbox       the statements: identities, the app's row, the event, in one round trip
    postgres.addresses   two users who claim one address
    postgres.queue       the inbox as a queue: what is due, what may be forgotten
    postgres.events      the inbox as operators look at it
    postgres.lookup      what is known of one user
    postgres.migrations  the schema, a numbered file a step
    postgres.schema      brings it up to date, tells whether it is
    postgres.binaries    where a PostgreSQL lies
    postgres.embedded    runs it, for `dev` and the tests
    sync.decide          the law: what becomes of a change, as a table
    sync.conflict        which of two claims to an address is shown
    sync.apply           the only way to write a user
    sync.intake          waiting webhooks share one transaction
    sync.attempt         what the inbox has kept, once more
    sync.retry           what nobody waits for: another attempt, long deletions, retention
    web.problems         errors as answers
    web.metrics          what is counted
    web.requests         around every request: an ID, a line, no redirect
    web.webhooks         POST /webhooks/clerk
    web.health           GET /healthz, /readyz
    web.app              all of it, from settings, by a function
    web.whole            an answer's head and body in one packet
    web.server           uvicorn, and how it ended
    cli.types            what the commands share: arguments read, times and faults told
    cli.local            `.sync-service/`, what `dev` keeps
    cli.database         a connection for one command
    cli.serve            production
    cli.migrate          the schema
    cli.dev              everything with nothing set
    cli.send             an event of Clerk, signed
    cli.replay           events once more, or what that would change
    cli.events           the operators' view of the inbox
    cli.users            one user
    cli                  the command line
"""
