-- Clerk's users are of 2 to 3 kB, just above the 2 kB from which PostgreSQL compresses a row: an eighth of all that it
-- did for a webhook, to save a third of what retention drops in any case. What is longer than this is compressed still.
alter table clerk_sync.events set (toast_tuple_target = 4080);
