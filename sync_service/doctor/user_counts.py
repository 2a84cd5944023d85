"""Counts of the users table: rows, Clerk IDs, duplicate emails."""

from typing import Any

from msgspec import Struct

from sync_service.doctor.counts import Counter
from sync_service.mapping.coercion import TIME_TYPES
from sync_service.mapping.introspection import Table
from sync_service.mapping.table import TableMapping
from sync_service.postgres.sql import quote_ident, quote_table

# Clerk's list of users takes this many IDs in one request.
MAX_SAMPLED_IDS = 100


class UserCounts(Struct, frozen=True):
    """Counts of the users table; None means not counted.

    `malformed_ids` do not have the form of a Clerk ID. `unknown_ids` are Clerk IDs without a row in
    clerk_sync.identities. `shared_emails` are emails that several rows have, ignoring case.
    `newest` is the creation time of the newest user, where a column has it.
    """

    rows: int | None = None
    with_clerk_id: int | None = None
    malformed_ids: int | None = None
    duplicate_ids: int | None = None
    shared_emails: int | None = None
    rows_with_shared_email: int | None = None
    unknown_ids: int | None = None
    newest: str | None = None

    @property
    def without_clerk_id(self) -> int | None:
        """Rows that are linked to no user of Clerk."""
        if self.rows is None or self.with_clerk_id is None:
            return None
        return self.rows - self.with_clerk_id


async def count_users(counter: Counter, mapping: TableMapping, table: Table, *, has_identities: bool) -> UserCounts:
    """Return the counts. `has_identities`: clerk_sync.identities can be read, to find unknown Clerk IDs."""
    names = {"table": quote_table(table.schema, table.name), "clerk_id": quote_ident(mapping.id_column)}
    queries = [_ROWS_SQL]
    if table.column(mapping.id_column):
        queries = [_CLERK_IDS_SQL, _DUPLICATE_IDS_SQL]
        if has_identities:
            queries.append(_UNKNOWN_IDS_SQL)
    if email := find_email_column(mapping, table):
        names["email"] = quote_ident(email)
        queries.append(_SHARED_EMAILS_SQL)
    if created_at := _find_creation_column(mapping, table):
        names["created_at"] = quote_ident(created_at)
        queries.append(_NEWEST_SQL)
    found: dict[str, Any] = {}
    for sql in queries:
        found |= await counter.fetch_row(sql.format(**names))
    return UserCounts(**found)


async def sample_unknown_ids(counter: Counter, mapping: TableMapping, table: Table) -> list[str]:
    """Return up to MAX_SAMPLED_IDS Clerk IDs of the table that are not in clerk_sync.identities."""
    sql = _SAMPLE_SQL.format(table=quote_table(table.schema, table.name), clerk_id=quote_ident(mapping.id_column))
    return (await counter.fetch_row(sql, MAX_SAMPLED_IDS)).get("ids") or []


def _find_creation_column(mapping: TableMapping, table: Table) -> str | None:
    """Return the column with the time at which a user was created, in Clerk or in the app."""
    times = [column.name for column in table.columns if column.base in TIME_TYPES]
    mapped = [name for name, field in mapping.columns.items() if field.only_source == "created_at" and name in times]
    return next(iter([*mapped, *(name for name in times if name.lower().replace("_", "") == "createdat")]), None)


def find_email_column(mapping: TableMapping, table: Table) -> str | None:
    """Return the column with the user's email, by the mapping or else by its name."""
    mapped = (name for name, column in mapping.columns.items() if column.shows_email)
    return next((name for name in (*mapped, "email", "email_address") if table.column(name)), None)


_ROWS_SQL = """
select count(*) as rows, 0 as with_clerk_id from {table}
"""

# A Clerk ID is user_ and letters and digits. '' counts as null, because most tables with an empty text mean null.
_CLERK_IDS_SQL = """
select
    count(*) as rows,
    count(nullif({clerk_id}::text, '')) as with_clerk_id,
    count(*) filter (where {clerk_id}::text <> '' and {clerk_id}::text !~ '^user_[A-Za-z0-9]+$') as malformed_ids
from {table}
"""

_DUPLICATE_IDS_SQL = """
select count(*) as duplicate_ids
from (select from {table} where {clerk_id} is not null group by {clerk_id} having count(*) > 1) as t
"""

_SHARED_EMAILS_SQL = """
select count(*) as shared_emails, coalesce(sum(n), 0)::bigint as rows_with_shared_email
from (
    select count(*) as n from {table} where nullif({email}::text, '') is not null
    group by lower({email}::text) having count(*) > 1
) as t
"""

_UNKNOWN_IDS_SQL = """
select count(*) as unknown_ids from {table} as app
where {clerk_id}::text <> ''
    and not exists (select from clerk_sync.identities as known where known.clerk_id = app.{clerk_id}::text)
"""

_SAMPLE_SQL = """
select array_agg(id) as ids
from (
    select app.{clerk_id}::text as id from {table} as app
    where {clerk_id}::text <> ''
        and not exists (select from clerk_sync.identities as known where known.clerk_id = app.{clerk_id}::text)
    limit $1
) as t
"""

_NEWEST_SQL = """
select max({created_at})::text as newest from {table}
"""
