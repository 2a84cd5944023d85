"""A table that links the users with their Clerk IDs, where the users table has no column for them (pure)."""

from dataclasses import dataclass

from sync_service.mapping.introspection import Table
from sync_service.postgres.sql import fill_gaps, quote_ident, quote_table
from sync_service.suggest.clerk_ids import choose_clerk_id
from sync_service.suggest.overview import Overview, TableOverview

# Weaker evidence than a column's name with "clerk" does not show a link.
_MIN_STRENGTH = 4


@dataclass(frozen=True, slots=True)
class Link:
    """A table with one row per linked user: its column of the Clerk ID, and its foreign key to the user."""

    schema: str
    table: str
    clerk_id: str
    user: str

    @property
    def display_name(self) -> str:
        """Schema and name of the table, for messages."""
        return f"{self.schema}.{self.table}"


def render_copy(link: Link, users: Table, clerk_id: str) -> str:
    """Return the statement that copies the Clerk IDs into a column of the users table. It may run again."""
    key = users.primary_key[0] if users.primary_key else "id"
    gaps = {
        "users": quote_table(users.schema, users.name),
        "clerk_id": quote_ident(clerk_id),
        "key": quote_ident(key),
        "links": quote_table(link.schema, link.table),
        "linked_id": quote_ident(link.clerk_id),
        "user": quote_ident(link.user),
    }
    return fill_gaps(_COPY_SQL, gaps)


def find_link(overview: Overview, users: TableOverview) -> Link | None:
    """Return the table that links the users with their Clerk IDs; None without one."""
    for table in overview.tables:
        keys = [r.columns[0] for r in table.references if r.parent == users.id and len(r.columns) == 1]
        clerk_id = choose_clerk_id(overview, table) if keys and table.id != users.id else None
        if clerk_id and clerk_id.strength >= _MIN_STRENGTH and clerk_id.column not in keys:
            return Link(table.schema, table.name, clerk_id.column, keys[0])
    return None


# For the owner of the tables to run.
_COPY_SQL = (
    "update /*<users>*/users/*</users>*/ as u"
    " set /*<clerk_id>*/clerk_id/*</clerk_id>*/ = l./*<linked_id>*/clerk_id/*</linked_id>*/"
    " from /*<links>*/links/*</links>*/ as l where l./*<user>*/user_id/*</user>*/ = u./*<key>*/id/*</key>*/"
    " and u./*<clerk_id>*/clerk_id/*</clerk_id>*/ is null;"
)
