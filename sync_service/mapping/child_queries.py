"""SQL that ties the rows of sessions and memberships to those of their parents (pure)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sync_service.clerk.entities import Parent
from sync_service.mapping.binding import BoundMapping
from sync_service.mapping.coercion import TIME_TYPES
from sync_service.mapping.computed_values import PARENT_KEYS
from sync_service.mapping.introspection import Column
from sync_service.mapping.table import TableMapping
from sync_service.postgres.sql import fill_gaps, quote_ident, quote_literal, read_gaps, read_sql


@dataclass(frozen=True, slots=True)
class ChildrenQuery:
    """The statement that lists the rows of deleted parents, by the parents' keys in the app or Clerk IDs."""

    sql: str
    by_key: bool


@dataclass(frozen=True, slots=True)
class FamilyQueries:
    """Statements of a table as a parent, and as a child: `children` by the parent, `expired` for sessions."""

    find_parents: str
    lock_parents: str
    lock_deleted_parents: str
    children: Mapping[str, ChildrenQuery]
    expired: str


def build_family_queries(bound: BoundMapping, names: Mapping[str, str]) -> FamilyQueries:
    """Return the statements; `names` has the gaps for the names of the table."""
    lock, listing = read_sql(__package__, "lock_parents.sql"), read_sql(__package__, "list_children.sql")
    links = {parent.entity: find_parent_column(bound.mapping, parent) for parent in bound.mapping.kind.parents}
    return FamilyQueries(
        find_parents=fill_gaps(lock, {**names, "lock": ""}),
        lock_parents=fill_gaps(lock, {**names, "lock": "for key share"}),
        lock_deleted_parents=fill_gaps(lock, {**names, "lock": "for update"}),
        children={
            parent: ChildrenQuery(
                fill_gaps(listing, {**names, **_name_link(bound.column_types[link[0]])}), by_key=link[1]
            )
            for parent, link in links.items()
            if link
        },
        expired=fill_gaps(
            read_sql(__package__, "list_expired.sql"),
            {**names, "end": "".join(f"{end}, " for end in _list_ends(bound))},
        ),
    )


def render_entity_gaps(mapping: TableMapping, source: Mapping[str, str]) -> dict[str, str]:
    """Return the gaps of apply_changes.sql that depend on the entity; `source` has the place of the owner's ID."""
    defaults = read_gaps(read_sql(__package__, "apply_changes.sql"))
    gaps = dict.fromkeys(("entity_column", "entity", "owner_column", "owner", "wake_children"), "")
    gaps |= {"can_refetch": "true", "has_woken": "false"}
    if mapping.entity != "user":
        gaps |= {"entity_column": defaults["entity_column"], "entity": f", {quote_literal(mapping.entity)}"}
        gaps |= {"can_refetch": "false", "owner_column": defaults["owner_column"], "owner": source["owner"]}
    if mapping.has_children:
        gaps |= {"wake_children": defaults["wake_children"], "has_woken": defaults["has_woken"]}
    return gaps


def find_parent_column(mapping: TableMapping, parent: Parent) -> tuple[str, bool] | None:
    """Return the column that refers to the parent, and whether it has the app's key; None without one."""
    return next(iter(list_parent_columns(mapping, parent)), None)


def list_parent_columns(mapping: TableMapping, parent: Parent) -> list[tuple[str, bool]]:
    """Return the columns that refer to the parent, each with whether it has the app's key, not Clerk's ID."""
    by_source = {field.only_source: name for name, field in mapping.columns.items()}
    sources = {".".join(parent.path): False, PARENT_KEYS[parent.entity]: True}
    return [(by_source[source], by_key) for source, by_key in sources.items() if source in by_source]


def _name_link(column: Column) -> dict[str, str]:
    return {"link": quote_ident(column.name), "link_type": "text" if column.category == "S" else column.plain_type}


def _list_ends(bound: BoundMapping) -> Iterator[str]:
    """Yield SQL for the times at which a session ends, the most exact first."""
    for source in ("ended_at", "expire_at"):
        for name, field in bound.mapping.columns.items():
            column = bound.column_types[name]
            if field.only_source == source and column.base in TIME_TYPES:
                zone = " at time zone 'utc'" if column.base == "timestamp" else ""
                yield f"(child.{quote_ident(name)}{zone})::timestamptz"
                break
