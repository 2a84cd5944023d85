"""Keeps an application's own PostgreSQL `users` table true to Clerk.

The house, from the ground up, in reading order. A room imports only from rooms above it in this list, and
tests/test_house.py holds the list against the imports.

    errors               what can go wrong, as types; whose fault it is, whether trying again helps
    dsn                  a database address as platforms print it, made into one that connects
    spellings            one setting as people write it → its value
    clerk.values         Clerk's user; a snapshot, a deletion, a version
    mapping.sources      what a column can be filled with
    mapping.table        one table of the app, and what of it is ours
    mapping.presets      whole mappings, by name
    mapping.file         `sync.toml` → a mapping
    settings             the environment, read once from a mapping
    process              a process that ends with the one that started it
    logs                 one line an event; never a person, never a secret
    clerk.events         the body of a webhook → an event
    clerk.signature      whether it is genuine
    clerk.keys           the keys that sign session tokens, kept while Clerk is away
    clerk.tokens         a session token → whose it is
    clerk.breaker        whether Clerk is worth asking now, and how often
    clerk.api            Clerk's Backend API, as far as it is asked
    clerk.instance       whose keys these are, asked of Clerk
    clerk.samples        events as Clerk sends them, to try things with
    postgres.faults      what PostgreSQL raises → whose fault it is
    postgres.pool        connections
    postgres.catalogue   a table of the app, as PostgreSQL knows it
    postgres.conversion  a value in the form that a column takes
    postgres.obstacles   what in the table stands in a mapping's way
    postgres.fit         a mapping held against that table
    postgres.statements  the SQL of one mapping
    mapping.suggest      a table → the text of a `sync.toml` for it
    postgres.inbox       changes on their way in: identities, the app's row, the event, in one round trip
    postgres.addresses   two users who claim one address
    postgres.queue       the inbox as a queue: what is due, what may be forgotten
    postgres.events      the inbox as operators look at it
    postgres.lookup      what is known of one user
    postgres.logins      what a login looks at, and who asks Clerk
    postgres.migrations  the schema, a numbered file a step
    postgres.schema      brings it up to date, tells whether it is
    postgres.survey      what stands around the users table: server, foreign keys, loose columns, the inbox
    postgres.counts      rows of the app, counted within a time
    postgres.cures       statements for the owner to run, safe on a live table
    postgres.binaries    where a PostgreSQL lies
    postgres.embedded    runs it, for `dev` and the tests
    sync.decide          the law: what becomes of a change, as a table
    sync.conflict        which of two claims to an address is shown
    sync.parking         what became of an event; where it goes that cannot be applied now
    sync.apply           the only way to write a user
    sync.intake          waiting webhooks share one transaction
    sync.attempt         what the inbox has kept, once more
    sync.asking          Clerk asked about a user, once however many want to know
    sync.login           the row at once if it is fresh, else what Clerk says
    sync.retry           what nobody waits for: another attempt, long deletions, retention
    doctor.findings      what, why it matters, what to run
    doctor.keys          whether settings and keys belong together
    doctor.server        the database as a place to work in
    doctor.table         the users table against its mapping
    doctor.columns       lengths, types, what is unique, triggers
    doctor.graph         the foreign keys below it, each once
    doctor.references    what goes with a user, what forbids it, what it costs
    doctor.loose         columns that look like the key of a user and are bound to none
    doctor.people        the users in numbers
    doctor.inbox         silence, what failed, what waits
    doctor.examine       all of it, one thing after another
    web.problems         errors as answers
    web.metrics          what is counted
    web.requests         around every request: an ID, a line, no redirect
    web.webhooks         POST /webhooks/clerk
    web.callers          who is calling
    web.sync             POST /sync
    web.users            GET /users/…, POST /users/resolve
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
    cli.doctor           what stands in the way, and what to run
    cli.mapping          a `sync.toml` for the table that is there
    cli.users            one user
    cli.docs             the documentation pages
    cli                  the command line
"""
