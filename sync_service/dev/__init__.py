"""A PostgreSQL on this machine for `dev` and the tests, and the files that `dev` keeps."""
