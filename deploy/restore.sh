#!/bin/sh
# Puts a backup of backup.sh back: replaces the users table, all tables that refer to it, and the schema clerk_sync. It
# does so in one transaction: after an error nothing is changed.
#
#     DATABASE_URL=postgresql://… deploy/restore.sh FOLDER
#
# The programs psql and pg_restore are on PATH, and pg_restore is not older than the pg_dump of the backup.
set -eu
trap '' PIPE

. "${0%/*}/database_url.sh"

[ $# -eq 1 ] || fail "usage: restore.sh FOLDER"
folder=$1
need psql pg_restore
for file in users.dump clerk_sync.dump tables; do
    [ -f "$folder/$file" ] || fail "$folder/$file does not exist. Name a folder that backup.sh has written."
done

# The commit comes after both archives, so that half an archive is never restored.
print_statements() {
    echo 'begin;'
    echo 'set client_min_messages = warning;'
    echo 'drop schema if exists clerk_sync cascade;'
    pg_restore --file=- "$folder/clerk_sync.dump" || return
    pg_restore --clean --if-exists --file=- "$folder/users.dump" || return
    echo 'commit;'
    printf '%s\n' '\echo restored'
    # Without statistics PostgreSQL would read a whole table for each user.
    sed 's/.*/analyze &;/' "$folder/tables"
}

print_statements | psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname="$url" | grep -x restored > /dev/null \
    || fail "the backup was not restored, and nothing is changed."

echo "The tables and the schema clerk_sync are as old as the backup. Next, run:"
echo "    sync-service migrate                 # if the backup is of an older release"
echo "    sync-service doctor"
echo "    sync-service reconcile --dry-run     # then without --dry-run"
