"""The special rules for the primary email: uniqueness, release to another user, linking (pure)."""

from dataclasses import dataclass

from sync_service.mapping.binding import BoundMapping
from sync_service.mapping.fields import PLACEHOLDER, PRIMARY_EMAIL
from sync_service.mapping.introspection import Table
from sync_service.postgres.sql import quote_ident, quote_literal


@dataclass(frozen=True, slots=True)
class EmailPolicy:
    """How one bound table treats the primary email.

    `columns` are the written columns that show it. `unique_column` is the one on which the table has a unique index,
    `case_insensitive` whether that index ignores the case of letters. `link_column` is compared when rows are linked;
    the table may generate it.
    """

    bound: BoundMapping
    columns: tuple[str, ...]
    unique_column: str | None
    case_insensitive: bool
    link_column: str | None

    @property
    def can_release(self) -> bool:
        """Whether the older of two claims to an email gives it up."""
        releases = self.bound.mapping.email_conflict == "release"
        return releases and (self.unique_column is None or self.can_be_empty(self.unique_column))

    @property
    def placeholder(self) -> str | None:
        """The value of the unique column without an email: a text with `{clerk_id}` in it, or None for null."""
        return self._placeholder(self.unique_column) if self.unique_column else None

    @property
    def released(self) -> str:
        """The same as SQL."""
        return self.empty_value(self.unique_column) if self.unique_column else "null"

    def can_be_empty(self, column: str) -> bool:
        """Return whether the column accepts a row without an email."""
        return not self.bound.column_types[column].not_null or self._placeholder(column) is not None

    def empty_value(self, column: str) -> str:
        """Return SQL for the value of a column without an email."""
        text = self._placeholder(column)
        if text is None:
            return "null"
        id_column = quote_ident(self.bound.mapping.id_column)
        return f"replace({quote_literal(text)}, {quote_literal(PLACEHOLDER)}, {id_column}::text)"

    def compare(self, column: str, parameter: str) -> str:
        """Return SQL that compares an email as the table's unique index does; `column` is SQL."""
        if not self.unique_column:
            return "false"
        if self.case_insensitive:
            return f"lower({column}::text) = lower({parameter}::text)"
        return f"{column} = {parameter}::text::{self.bound.column_types[self.unique_column].type}"

    def _placeholder(self, column: str) -> str | None:
        when_null = self.bound.mapping.columns[column].when_null
        return when_null if isinstance(when_null, str) else None


def read_email_policy(bound: BoundMapping, mapped_columns: tuple[str, ...]) -> EmailPolicy:
    """Return the policy of a table. `mapped_columns` show the email in the mapping, generated columns included."""
    columns = tuple(name for name, field in bound.mapping.columns.items() if field.source == PRIMARY_EMAIL)
    unique = [name for name in columns if _is_unique(bound.table, name)]
    return EmailPolicy(
        bound=bound,
        columns=columns,
        unique_column=unique[0] if unique else None,
        case_insensitive=bool(unique) and _is_unique_ignoring_case(bound.table, unique[0]),
        link_column=next((name for name in mapped_columns if bound.table.column(name)), None),
    )


def _is_unique(table: Table, name: str) -> bool:
    return _is_unique_ignoring_case(table, name) or any(i.unique and i.keys == (name,) for i in table.indexes)


def _is_unique_ignoring_case(table: Table, name: str) -> bool:
    forms = {f"lower({name})", f"lower({name}::text)", f'lower("{name}")', f'lower("{name}"::text)'}
    return any(i.unique and len(i.keys) == 1 and i.keys[0] in forms for i in table.indexes)
