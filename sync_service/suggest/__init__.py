"""`mapping suggest`: a users table, its rows and the tables around it → the text of a `sync.toml`."""
