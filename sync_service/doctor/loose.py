"""Columns that look like the key of a user and that nothing binds to one (pure)."""

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sync_service.doctor.findings import Finding, told
from sync_service.mapping.table import TableMapping
from sync_service.postgres import cures
from sync_service.postgres.catalogue import Column, Table
from sync_service.postgres.obstacles import SHORTEST_ID
from sync_service.postgres.survey import LooseColumn

_ROLE = "author|creator|owner|sender|recipient|receiver|member|assignee|reviewer|follower|following"
_ACT = "(?:created|updated|deleted|invited|assigned|uploaded|approved)by"
# Of the name in small letters, without underscores and hyphens.
_CLERK = re.compile(r"(?:\w+)?clerk(?:user)?id")
_USER = re.compile(rf"(?:{_ROLE}|{_ACT}|from|to)?user(?:id|key|fk)|(?:{_ROLE})id|{_ACT}(?:id)?")

_WHOLE = frozenset({"int2", "int4", "int8"})


@dataclass(frozen=True, slots=True)
class Stray:
    """A loose column, and the column of the users table that it means; None where its type can hold neither.

    `bound`: another key of its table decides what becomes of its rows.
    """

    column: LooseColumn
    means: str | None
    clerk: bool
    bound: bool


def strays(
    mapping: TableMapping, table: Table, columns: Iterable[LooseColumn], going: Container[tuple[str, str]] = ()
) -> list[Stray]:
    """Return the columns whose names say that they hold a user. The rows of `going` tables go with the user."""
    found = []
    for column in columns:
        name = re.sub(r"[_\s-]", "", column.column).lower()
        clerk = bool(_CLERK.fullmatch(name))
        if clerk or _USER.fullmatch(name):
            bound = column.bound or (column.schema, column.table) in going
            found.append(Stray(column, _meant(mapping, table, column, clerk=clerk), clerk, bound))
    return found


def _meant(mapping: TableMapping, table: Table, column: LooseColumn, *, clerk: bool) -> str | None:
    clerk_id = table.column(mapping.clerk_id)
    key = table.column(table.primary_key[0]) if len(table.primary_key) == 1 else None
    if not clerk and key and _family(key) == _family(column) and _long_enough(key, column):
        return key.name
    if clerk_id and _family(clerk_id) == _family(column) == "text" and _long_enough(clerk_id, column):
        return clerk_id.name
    return None


def _long_enough(target: Column, column: LooseColumn) -> bool:
    return target.category != "S" or column.length is None or column.length >= SHORTEST_ID


def _family(column: Column | LooseColumn) -> str:
    return "text" if column.category == "S" else "whole" if column.base in _WHOLE else column.base


def stray_findings(
    mapping: TableMapping, table: Table, stray: Stray, rows: int | None, orphans: int | None
) -> Iterator[Finding]:
    """Yield what is to be said of one: `rows` name somebody, `orphans` of them somebody who is not there."""
    column = stray.column
    data: dict[str, Any] = {"table": f"{column.schema}.{column.table}", "column": column.column, "type": column.type}
    if stray.means is None:
        holds = "a Clerk ID (user_…)" if stray.clerk or not table.primary_key else f"a key of {mapping.name}"
        yield Finding(
            code="type_mismatch",
            kind="wrong" if stray.clerk else "warning",
            what=f"{column.where}: is {column.type}, which cannot hold {holds}",
            why="What is written there is refused or cut, unless the column means something else.",
            run=(_other_column(stray, table),) if stray.clerk and not column.partitioned else (),
            data=data,
        )
        return
    data |= {"references": f"{mapping.name}.{stray.means}", "rows": rows, "orphans": orphans}
    parent = (table.schema, table.name)
    if orphans:
        yield Finding(
            code="orphans",
            kind="warning",
            what=f"{column.where}: {told(orphans)} of {told(rows)} rows name a user who is not in {mapping.name}",
            why="They belong to nobody: left from users who are gone, or written before their user was.",
            run=(cures.list_orphans(column.schema, column.table, [column.column], parent, [stray.means]),),
            data=data,
        )
    bind = mapping.on_delete == "cascade" and not stray.bound and not column.partitioned
    yield Finding(
        code="no_foreign_key",
        kind="note" if stray.bound else "warning",
        what=f"{column.where}: looks like {mapping.name}.{stray.means} and has no foreign key"
        + (" (another column of its table has)" if stray.bound else f" ({told(rows)} rows)"),
        why="The other key decides what becomes of its rows; nothing keeps the two the same."
        if stray.bound
        else "Its rows stay when the user goes, and nothing keeps rows from naming nobody.",
        run=cures.add_foreign_key(column, table, stray.means) if bind and table.unique_on(stray.means) else (),
        data=data,
    )


def _other_column(stray: Stray, table: Table) -> str:
    found = stray.column
    if found.base == "varchar":
        return cures.widen(found.schema, found.table, found.column)
    return cures.add_beside(found, "clerk_user_id" if found.column != "clerk_user_id" else "clerk_user_id_text")
