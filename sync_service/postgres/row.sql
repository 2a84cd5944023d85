select to_jsonb(app) from {table} as app where {clerk_id}::text = $1
