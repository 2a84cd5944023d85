#!/bin/sh
# Writes a backup of the users table, of all tables that refer to it, and of the schema clerk_sync. All have the state
# of one moment.
#
#     DATABASE_URL=postgresql://… deploy/backup.sh FOLDER
#
# The folder must not exist yet. The programs sync-service, psql and pg_dump are on PATH, and pg_dump is not older than
# the server. DATABASE_URL names the server itself, not a transaction pooler.
set -eu
trap '' PIPE

. "${0%/*}/database_url.sh"

[ $# -eq 1 ] || fail "usage: backup.sh FOLDER"
folder=$1
[ ! -e "$folder" ] || fail "$folder exists already. Name a new folder."
need sync-service psql pg_dump

tables=$(sync-service mapping tables) || fail "the tables cannot be listed. No backup was made."
set --
while IFS= read -r table; do
    set -- "$@" "--table=$table"
done << END_OF_TABLES
$tables
END_OF_TABLES

umask 077
partial="$folder.partial"
mkdir "$partial" || fail "remove $partial, the rest of an interrupted backup, or name another folder."
trap 'rm -rf "$partial"' EXIT
trap 'exit 1' HUP INT TERM

# psql keeps a transaction open whose snapshot both dumps read.
mkfifo "$partial/statements" "$partial/answers"
psql --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 --dbname="$url" \
    < "$partial/statements" > "$partial/answers" &
exec 3> "$partial/statements" 4< "$partial/answers"
rm "$partial/statements" "$partial/answers"
cat >&3 << 'END_OF_STATEMENTS' || fail "psql ended. No backup was made."
begin transaction isolation level repeatable read, read only;
set local idle_in_transaction_session_timeout = 0;
select pg_export_snapshot();
END_OF_STATEMENTS
IFS= read -r snapshot <&4 || fail "the database cannot be read. No backup was made."

pg_dump --dbname="$url" --snapshot="$snapshot" --format=custom --schema=clerk_sync --strict-names \
    --file="$partial/clerk_sync.dump" 3>&- 4<&- || fail "the schema clerk_sync cannot be dumped. No backup was made."
pg_dump --dbname="$url" --snapshot="$snapshot" --format=custom "$@" --strict-names \
    --file="$partial/users.dump" 3>&- 4<&- || fail "the tables cannot be dumped. No backup was made."
exec 3>&- 4<&-

printf '%s\n' "$tables" > "$partial/tables"
mv "$partial" "$folder"
echo "$folder has a backup of the schema clerk_sync and these tables:"
echo "$tables"
