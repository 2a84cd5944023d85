"""One issue of a mapping with its table (pure)."""

from dataclasses import dataclass
from difflib import get_close_matches

from sync_service.mapping.introspection import Column, Table
from sync_service.mapping.table import TableMapping


@dataclass(frozen=True, slots=True)
class MappingIssue:
    """One issue of a mapping with its table.

    `code` is for programs. `name` is the table, column, schema or sequence with the issue; `why` ends the sentence.
    """

    code: str
    name: str
    why: str
    column: str | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


def find_similar_column(table: Table, name: str) -> Column | None:
    """Return the column with the most similar name; None if no name is similar."""
    close = get_close_matches(name, [column.name for column in table.columns], n=1)
    return table.column(close[0]) if close else None


def report_missing_column(code: str, mapping: TableMapping, table: Table, name: str, purpose: str = "") -> MappingIssue:
    """Return the issue that the table has no such column; a similar name is a hint."""
    close = find_similar_column(table, name)
    hint = f"; did you mean {close.name}?" if close else ""
    return MappingIssue(code, f"{mapping.name}.{name}", f"there is no such column{purpose}{hint}", name)
