-- The address is named: since it was seen there, the row may have got another, which is nobody else's.
update {table} set {email} = {released} where {clerk_id}::text = $1 and {still_there}
