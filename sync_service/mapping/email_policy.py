"""The special rules for the primary email, and for a unique value that a row gives up (pure)."""

from dataclasses import dataclass

from sync_service.mapping.binding import BoundMapping
from sync_service.mapping.fields import PLACEHOLDER
from sync_service.postgres.sql import quote_ident, quote_literal


@dataclass(frozen=True, slots=True)
class EmailPolicy:
    """How one bound table treats the primary email.

    `columns` are the written columns that show it. `link_column` is compared when rows are linked; the table may
    generate it.
    """

    bound: BoundMapping
    columns: tuple[str, ...]
    link_column: str | None

    def can_be_empty(self, column: str) -> bool:
        """Return whether the column accepts a row without a value."""
        return not self.bound.column_types[column].not_null or self.placeholder(column) is not None

    def empty_value(self, column: str) -> str:
        """Return SQL for a column without a value."""
        text = self.placeholder(column)
        if text is None:
            return "null"
        id_column = quote_ident(self.bound.mapping.id_column)
        return f"replace({quote_literal(text)}, {quote_literal(PLACEHOLDER)}, {id_column}::text)"

    def placeholder(self, column: str) -> str | None:
        """Return a text with `{clerk_id}` in it that stands for no value, or None for null."""
        when_null = self.bound.mapping.columns[column].when_null
        return when_null if isinstance(when_null, str) else None


def read_email_policy(bound: BoundMapping, mapped_columns: tuple[str, ...]) -> EmailPolicy:
    """Return the policy of a table. `mapped_columns` show the email in the mapping, generated columns included."""
    return EmailPolicy(
        bound=bound,
        columns=tuple(name for name, field in bound.mapping.columns.items() if field.shows_email),
        link_column=next((name for name in mapped_columns if bound.table.column(name)), None),
    )
