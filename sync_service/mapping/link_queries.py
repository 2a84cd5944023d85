"""SQL that links rows from before Clerk to their users: by the email, or by the app's own key (pure)."""

from dataclasses import dataclass

from sync_service.mapping.assignments import render_assignments
from sync_service.mapping.binding import BoundMapping
from sync_service.mapping.deletion_marks import can_unmark_linked, render_unmark
from sync_service.mapping.email_policy import EmailPolicy
from sync_service.postgres.sql import fill_gaps, quote_ident, read_sql


@dataclass(frozen=True, slots=True)
class LinkQueries:
    """The statements that the mapping allows. `unmark` removes the marks of an earlier user from linked rows.

    Those that begin with `find_` only return the rows that the others would link.
    """

    by_email: str | None
    by_key: str | None
    find_by_email: str | None
    find_by_key: str | None
    unmark: str | None


def build_link_queries(bound: BoundMapping, email: EmailPolicy, names: dict[str, str]) -> LinkQueries:
    """Return the statements of a bound mapping."""
    mapping = bound.mapping
    names = names | {"link": render_assignments(bound, {mapping.id_column: "claimed.clerk_id"}, "app.")}
    by_email = email.link_column if mapping.link_by_verified_email else None
    names |= {"key_type": _get_key_type(bound), "link_column": quote_ident(by_email or "")}
    return LinkQueries(
        by_email=_render("link_rows_by_email.sql", names) if by_email else None,
        by_key=_render("link_rows_by_external_id.sql", names) if mapping.link_by_external_id else None,
        find_by_email=_render("find_links_by_email.sql", names) if by_email else None,
        find_by_key=_render("find_links_by_external_id.sql", names) if mapping.link_by_external_id else None,
        unmark=_render_unmark_linked(bound, names) if can_unmark_linked(bound) else None,
    )


def _get_key_type(bound: BoundMapping) -> str:
    column = bound.table.column(bound.key)
    assert column is not None  # noqa: S101  the key is a column of the table
    return column.base


def _render_unmark_linked(bound: BoundMapping, names: dict[str, str]) -> str:
    kept = f"(select values_before from kept where app_key = {names['key']}::text limit 1)"  # noqa: S608  quoted name
    return _render("unmark_linked.sql", names | {"unmark": render_unmark(bound, kept)})


def _render(name: str, gaps: dict[str, str]) -> str:
    return fill_gaps(read_sql(__package__, name), gaps)
