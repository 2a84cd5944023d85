"""The only place with SQL, and the server that `dev` and the tests run on."""
