-- Standard terms for columns and indexes. Renaming changes the catalogue only, no row.
alter table clerk_sync.identities rename column tie to tiebreak;
alter table clerk_sync.identities rename column kept_at to restored_at;
alter table clerk_sync.identities rename column address_wanted to email_pending;
alter table clerk_sync.identities rename column refetch_wanted to refetch_pending;
alter table clerk_sync.fetches rename column until to expires_at;
alter index clerk_sync.identities_that_want_an_address rename to identities_with_pending_email;
alter index clerk_sync.identities_to_ask_clerk_about rename to identities_with_pending_refetch;
