-- The address is named: since it was seen there, the row may have got another, which is nobody else's.
update {table} set {email} = null where {clerk_id} = $1 and {email} = $2
