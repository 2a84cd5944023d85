"""The tables of `clerk_sync`, together with the application's row: events, identities, claims to an email."""
