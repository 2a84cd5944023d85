"""The join of the app's rows with the name and the email of their user, as the app's pages show them."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from sync_service.doctor.counts import Counter
from sync_service.doctor.findings import Finding, format_count, format_number_of
from sync_service.doctor.foreign_key_graph import ForeignKeyEdge
from sync_service.doctor.introspection import ForeignKey
from sync_service.doctor.reference_counts import build_join_condition
from sync_service.mapping.introspection import Table
from sync_service.mapping.table import TableMapping
from sync_service.postgres.sql import quote_ident, quote_table

# Tables that are joined. Each count has a time limit.
MAX_TABLES = 10

_NAME_SOURCES = frozenset({"full_name", "first_name", "last_name", "username"})


class JoinCount(Struct, frozen=True):
    """The rows of a table whose user exists, and those whose user has a name and an email; None means not counted."""

    rows: int | None = None
    with_name: int | None = None
    with_email: int | None = None


def list_joined_keys(table: Table, edges: Sequence[ForeignKeyEdge]) -> list[ForeignKey]:
    """Return the foreign keys whose tables are joined: those that refer to the users table itself."""
    return [edge.key for edge in edges if edge.key.parent_oid == table.oid][:MAX_TABLES]


async def count_join(counter: Counter, mapping: TableMapping, table: Table, key: ForeignKey) -> JoinCount:
    """Return the counts. Raises errors of asyncpg."""
    names, emails = _list_columns(mapping, table)
    sql = _COUNT_SQL.format(name=_render_present(names), email=_render_present(emails), join=_render_join(key))
    return JoinCount(**await counter.fetch_row(sql))


def report_join(
    mapping: TableMapping, table: Table, keys: Sequence[ForeignKey], counts: Mapping[str, JoinCount]
) -> Finding | None:
    """Return the report; None without a foreign key, or without a column for names and emails (pure)."""
    names, emails = _list_columns(mapping, table)
    if not keys or not (names or emails):
        return None
    shown = ", ".join(f"parent.{quote_ident(name)}" for name in [*names, *emails])
    return Finding(
        code="joined_rows",
        kind="note",
        what=f"{mapping.name}: {format_number_of(len(keys), 'table')} with the name and the email of the user",
        why="A row without them shows a user without a name on the pages of your app.",
        lines=tuple(_describe(key, counts[key.display_name]) for key in keys),
        run=(f"select {shown}, child.* from {_render_join(keys[0])} limit 20;",),  # noqa: S608  quoted names
        data={
            "tables": {name: {"rows": c.rows, "name": c.with_name, "email": c.with_email} for name, c in counts.items()}
        },
    )


def _describe(key: ForeignKey, count: JoinCount) -> str:
    return (
        f"{key.display_name}: rows with a user: {format_count(count.rows)}, with a name:"
        f" {format_count(count.with_name)}, with an email: {format_count(count.with_email)}"
    )


def _list_columns(mapping: TableMapping, table: Table) -> tuple[list[str], list[str]]:
    """Return the columns with names, and those with the email."""
    present = {name: field for name, field in mapping.columns.items() if table.column(name)}
    names = [name for name, field in present.items() if field.only_source in _NAME_SOURCES]
    return names, [name for name, field in present.items() if field.shows_email]


def _render_present(columns: Sequence[str]) -> str:
    return " or ".join(f"parent.{quote_ident(name)} is not null" for name in columns) or "false"


def _render_join(key: ForeignKey) -> str:
    condition = build_join_condition("parent", key.parent_columns, "child", key.columns)
    child, parent = quote_table(key.schema, key.table), quote_table(key.parent_schema, key.parent_table)
    return f"{child} as child join {parent} as parent on {condition}"


_COUNT_SQL = """
select
    count(*) as rows,
    count(*) filter (where {name}) as with_name,
    count(*) filter (where {email}) as with_email
from {join}
"""
