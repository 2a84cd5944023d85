-- The server, and the rights of DATABASE_URL's role on schema clerk_sync.
select
    current_setting('server_version_num')::integer as version,
    current_setting('server_version') as version_text,
    pg_is_in_recovery() or current_setting('transaction_read_only') = 'on' as read_only,
    current_user::text as role,
    current_database()::text as database,
    has_database_privilege(current_database(), 'CREATE') as can_create_schema,
    pg_backend_pid() as pid,
    (select coalesce(array_agg(c.relname::text order by c.relname), '{}')
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'clerk_sync' and c.relkind in ('r', 'p')
            and not (has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT')
                and (c.relname = 'migrations' or has_table_privilege(c.oid, 'INSERT')
                    and has_table_privilege(c.oid, 'UPDATE') and has_table_privilege(c.oid, 'DELETE'))
            )
    ) as unwritable_tables
