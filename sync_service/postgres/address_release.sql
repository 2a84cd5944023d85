update {table} set {email} = null where {clerk_id} = $1
