"""A table for data that a visitor entered before sign-up, as `sync.toml` describes it (pure)."""

from dataclasses import dataclass

# Limits of one carry-over, over all its tables.
MAX_ROWS = 100
MAX_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryOverTable:
    """One `[carry_over.<name>]`.

    `user` is the column that gets the user's own key, `clerk_id` the one that gets the Clerk ID; one of them may be
    absent. Only `columns` take values of the request. `most` is the maximum number of rows in one request.
    """

    name: str
    schema: str
    table: str
    user: str | None = None
    clerk_id: str | None = None
    columns: tuple[str, ...]
    most: int = MAX_ROWS

    @property
    def table_name(self) -> str:
        """The qualified name, for messages and the log."""
        return f"{self.schema}.{self.table}"

    @property
    def owner_columns(self) -> tuple[str, ...]:
        """The columns that name the user of a row."""
        return tuple(name for name in (self.user, self.clerk_id) if name is not None)
