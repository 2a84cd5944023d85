"""Facts about a users table for tests of the suggestion: columns with defaults, overviews of tables."""

from collections.abc import Mapping
from typing import Any

from sync_service.mapping.introspection import Column, Index, Table
from sync_service.suggest.evidence import ColumnRows, Evidence
from sync_service.suggest.overview import ColumnOverview, IdCount, Overview, Reference, TableOverview

_CATEGORIES = {
    "text": "S",
    "varchar": "S",
    "bool": "B",
    "int4": "N",
    "int8": "N",
    "timestamptz": "D",
    "timestamp": "D",
    "date": "D",
    "_text": "A",
    "enum": "E",
}


def make_column(name: str, base: str = "text", **attributes: Any) -> Column:
    """Return a column; without attributes it accepts null and has no default."""
    usual = {"length": None, "not_null": False, "has_default": False, "generated": False}
    return Column(name=name, type=base, base=base, category=_CATEGORIES.get(base, "U"), **(usual | attributes))


def make_index(*keys: str, primary: bool = False, predicate: str | None = None) -> Index:
    partial = predicate is not None
    name = "_".join((*keys, "key"))
    return Index(name, unique=True, primary=primary, valid=True, partial=partial, keys=keys, predicate=predicate)


def make_facts(*columns: Column, unique: tuple[str, ...] = (), **facts: Any) -> Evidence:
    """Return the facts about a table with the key `id`, the column `clerk_id`, and these columns."""
    fixed = (make_column("id", "int4", not_null=True, has_default=True), make_column("clerk_id"))
    indexes = (make_index("id", primary=True), make_index("clerk_id"), *map(make_index, unique))
    table = Table(
        schema="public",
        name="users",
        oid=1,
        kind="r",
        row_security=False,
        privileges=frozenset(),
        triggers=(),
        columns=(*fixed, *columns),
        indexes=indexes,
    )
    usual: dict[str, Any] = {"table": table, "clerk_id": "clerk_id"}
    return Evidence(**(usual | facts))


def count_labels(**labels: int) -> ColumnRows:
    return ColumnRows(values=sum(labels.values()), labels=labels)


def make_overview(tables: Mapping[str, str], ids: Mapping[str, IdCount] | None = None) -> Overview:
    """Return an overview of tables such as `{"users": "id! email clerk_id* org_id>organizations"}`.

    `!` marks the key, `*` a unique column, `#` a number, `>` a foreign key. `ids` has the counts by `table.column`.
    """
    counts: dict[tuple[str, str], dict[str, IdCount]] = {}
    for name, count in (ids or {}).items():
        table, column = name.split(".")
        counts.setdefault(("public", table), {})[column] = count
    return Overview([_make_table(name, text.split()) for name, text in tables.items()], counts)


def _make_table(name: str, texts: list[str]) -> TableOverview:
    references = [text.split(">") for text in texts if ">" in text]
    return TableOverview(
        schema="public",
        name=name,
        readable=True,
        columns=tuple(map(_make_column_overview, texts)),
        references=tuple(Reference((column.rstrip("!*#"),), "public", parent, "c") for column, parent in references),
    )


def _make_column_overview(text: str) -> ColumnOverview:
    name, _, parent = text.partition(">")
    return ColumnOverview(
        name=name.rstrip("!*#"),
        category="N" if "#" in name or parent else "S",
        length=None,
        has_default="#" in name,
        not_null=False,
        unique="!" in name or "*" in name,
        primary="!" in name,
    )
