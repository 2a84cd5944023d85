"""A table that links the users with their Clerk IDs, where the users table has no column for them (pure)."""

from collections.abc import Iterator
from dataclasses import dataclass

from sync_service.mapping.introspection import Table
from sync_service.postgres.sql import fill_gaps, quote_ident, quote_table
from sync_service.suggest.clerk_ids import choose_clerk_id
from sync_service.suggest.overview import Overview, TableOverview

# Weaker evidence than a column's name with "clerk" does not show a link.
_MIN_STRENGTH = 4


@dataclass(frozen=True, slots=True)
class Link:
    """A table with one row per linked user. `clerk_id` is its column of the Clerk ID.

    Its `link_column` equals the `user_column` of the users table: one of both is a foreign key.
    """

    schema: str
    table: str
    clerk_id: str
    link_column: str
    user_column: str

    @property
    def display_name(self) -> str:
        """Schema and name of the table, for messages."""
        return f"{self.schema}.{self.table}"


def find_link(overview: Overview, users: TableOverview) -> Link | None:
    """Return the table that links the users with their Clerk IDs; None without one."""
    for table in overview.tables:
        for link_column, user_column in _list_joins(users, table):
            clerk_id = _find_id_column(overview, table, link_column)
            if clerk_id:
                return Link(table.schema, table.name, clerk_id, link_column, user_column)
    return None


def _list_joins(users: TableOverview, table: TableOverview) -> Iterator[tuple[str, str]]:
    """Yield the pairs of columns by which the table and the users table are connected."""
    if table.id == users.id:
        return
    for child, parent in ((table, users), (users, table)):
        key = next((column.name for column in parent.columns if column.primary), None)
        for reference in child.references:
            if key and reference.parent == parent.id and len(reference.columns) == 1:
                yield (reference.columns[0], key) if child is table else (key, reference.columns[0])


def _find_id_column(overview: Overview, table: TableOverview, link_column: str) -> str | None:
    """Return the column with Clerk IDs. Beside them it may hold the IDs of other providers."""
    clerk_id = choose_clerk_id(overview, table)
    if clerk_id and clerk_id.strength >= _MIN_STRENGTH and clerk_id.column != link_column:
        return clerk_id.column
    for column in table.columns:
        count = overview.count_ids(table, column)
        if count and count.users and column.is_named_as_id and column.name != link_column:
            return column.name
    return None


def render_copy(link: Link, users: Table, clerk_id: str) -> str:
    """Return the statement that copies the Clerk IDs into a column of the users table. It may run again."""
    return fill_gaps(_COPY_SQL, name_gaps(link, users, clerk_id))


def name_gaps(link: Link, users: Table, clerk_id: str) -> dict[str, str]:
    """Return the gaps of a statement on both tables. `clerk_id` is the column of the users table."""
    return {
        "users": quote_table(users.schema, users.name),
        "clerk_id": quote_ident(clerk_id),
        "user_column": quote_ident(link.user_column),
        "links": quote_table(link.schema, link.table),
        "linked_id": quote_ident(link.clerk_id),
        "link_column": quote_ident(link.link_column),
    }


# For the owner of the tables to run.
_COPY_SQL = (
    "update /*<users>*/users/*</users>*/ as u"
    " set /*<clerk_id>*/clerk_id/*</clerk_id>*/ = l./*<linked_id>*/clerk_id/*</linked_id>*/"
    " from /*<links>*/links/*</links>*/ as l"
    " where l./*<link_column>*/user_id/*</link_column>*/ = u./*<user_column>*/id/*</user_column>*/"
    " and l./*<linked_id>*/clerk_id/*</linked_id>*/ ~ '^user_' and u./*<clerk_id>*/clerk_id/*</clerk_id>*/ is null;"
)
