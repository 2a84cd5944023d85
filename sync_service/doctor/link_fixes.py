"""Statements for an app whose Clerk IDs are in a table that links them with the users (pure)."""

from msgspec import Struct

from sync_service.doctor.fixes import choose_name
from sync_service.mapping.introspection import Table
from sync_service.postgres.sql import fill_gaps, quote_ident, quote_table
from sync_service.suggest.links import Link, name_gaps, render_copy
from sync_service.suggest.overview import Overview


class LinkFix(Struct, frozen=True):
    """The link, and whether a trigger can insert a row with the two columns only."""

    link: Link
    can_insert: bool


def assess_link(overview: Overview, link: Link | None) -> LinkFix | None:
    """Return the link with the columns that the app requires in it."""
    found = overview.find(link.schema, link.table) if link else None
    if link is None or found is None:
        return None
    given = {link.clerk_id, link.link_column}
    required = [c.name for c in found.columns if c.not_null and not c.has_default and c.name not in given]
    refers_to_users = any(reference.columns == (link.link_column,) for reference in found.references)
    return LinkFix(link, can_insert=refers_to_users and not required)


def copy_links(fix: LinkFix, users: Table, clerk_id: str) -> tuple[str, ...]:
    """Return the statements that copy the Clerk IDs into the users table, and keep both tables the same.

    The triggers come first: a link that the app writes during the copy is not lost.
    """
    copy = render_copy(fix.link, users, clerk_id)
    triggers = [_create_trigger(_FOLLOW_LINKS, "follow_links", fix.link, users, clerk_id)]
    if fix.can_insert:
        triggers.append(_create_trigger(_WRITE_LINKS, "write_links", fix.link, users, clerk_id))
    return (*triggers, copy)


def _create_trigger(sql: str, ending: str, link: Link, users: Table, clerk_id: str) -> str:
    name = choose_name([users.name, ending], set())
    names = {"function": quote_table(users.schema, name), "trigger": quote_ident(name)}
    return fill_gaps(sql, name_gaps(link, users, clerk_id) | names)


# For the owner of the tables to run. A trigger may run as the role of the service, which has no right on the links.
_TRIGGER_SQL = """\
begin; set local lock_timeout = '1s';
create or replace function /*<function>*/f/*</function>*/() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $link$ begin
    {action};
    return null;
end $link$;
create trigger /*<trigger>*/t/*</trigger>*/
after {event}
execute function /*<function>*/f/*</function>*/();
commit;"""
_WRITE_LINKS = _TRIGGER_SQL.format(
    action="insert into /*<links>*/l/*</links>*/"
    " (/*<linked_id>*/l/*</linked_id>*/, /*<link_column>*/l/*</link_column>*/)"
    " values (new./*<clerk_id>*/u/*</clerk_id>*/, new./*<user_column>*/u/*</user_column>*/) on conflict do nothing",
    event="insert or update of /*<clerk_id>*/u/*</clerk_id>*/ on /*<users>*/u/*</users>*/"
    " for each row when (new./*<clerk_id>*/u/*</clerk_id>*/ is not null)",
)
_FOLLOW_LINKS = _TRIGGER_SQL.format(
    action="update /*<users>*/u/*</users>*/ set /*<clerk_id>*/u/*</clerk_id>*/ = new./*<linked_id>*/l/*</linked_id>*/"
    " where /*<user_column>*/u/*</user_column>*/ = new./*<link_column>*/l/*</link_column>*/"
    " and /*<clerk_id>*/u/*</clerk_id>*/ is null",
    event="insert on /*<links>*/l/*</links>*/ for each row when (new./*<linked_id>*/l/*</linked_id>*/ ~ '^user_')",
)
