"""The app's tables: columns, foreign keys, and the IDs of Clerk in their first rows (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from msgspec import Struct

from sync_service.mapping.validation import MIN_ID_LENGTH
from sync_service.suggest.names import normalize

# Names of columns for the Clerk ID, in the form of `normalize`. Names with the word "clerk" need no entry.
ID_NAMES = (
    *("authid", "authuserid", "authuid", "authref", "authsub", "authsubject", "authproviderid", "authprovideruserid"),
    *("externalauthid", "externalauthuserid", "externaluserid", "externalid", "externalref", "identityid", "idpid"),
    *(
        "idpuserid",
        "provideruserid",
        "provideraccountid",
        "provideruid",
        "providerid",
        "oauthid",
        "ssoid",
        "sub",
        "subject",
        "userid",
        "uid",
    ),
)


class ColumnOverview(Struct, frozen=True):
    """A column. `unique` and `primary`: an index of that kind has this column alone."""

    name: str
    category: str
    length: int | None
    has_default: bool
    not_null: bool
    unique: bool
    primary: bool

    @property
    def can_hold_id(self) -> bool:
        """Whether the type takes a Clerk ID."""
        return self.category == "S" and (self.length is None or self.length >= MIN_ID_LENGTH)

    @property
    def is_named_clerk(self) -> bool:
        """Whether the name says that the column holds something of Clerk."""
        return "clerk" in normalize(self.name)

    @property
    def is_named_as_id(self) -> bool:
        """Whether the name is usual for a Clerk ID."""
        return self.is_named_clerk or normalize(self.name) in ID_NAMES


class Reference(Struct, frozen=True):
    """A foreign key to a parent table. `on_delete` is pg_constraint.confdeltype: a no action, r restrict, c cascade."""

    columns: tuple[str, ...]
    parent_schema: str
    parent_table: str
    on_delete: str

    @property
    def parent(self) -> tuple[str, str]:
        """Schema and name of the parent table."""
        return self.parent_schema, self.parent_table


class TableOverview(Struct, frozen=True):
    """A table of the app. `readable`: our role may read its rows."""

    schema: str
    name: str
    readable: bool
    columns: tuple[ColumnOverview, ...]
    references: tuple[Reference, ...]

    @property
    def id(self) -> tuple[str, str]:
        """Schema and name."""
        return self.schema, self.name

    @property
    def display_name(self) -> str:
        """Schema and name, for messages."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class IdCount:
    """Counts of a column in the first rows: values, different values, IDs of Clerk's users, other IDs of Clerk."""

    values: int
    different: int
    users: int
    others: int


# By table and column.
IdCounts: TypeAlias = dict[tuple[str, str], dict[str, IdCount]]


@dataclass(frozen=True, slots=True)
class Overview:
    """All tables of the app, and the counts of their possible ID columns, by table and column."""

    tables: Sequence[TableOverview]
    ids: IdCounts

    def count_ids(self, table: TableOverview, column: ColumnOverview) -> IdCount | None:
        """Return the counts; None if the column has no value in the first rows."""
        count = self.ids.get(table.id, {}).get(column.name)
        return count if count and count.values else None

    def find(self, schema: str, name: str) -> TableOverview | None:
        """Return the table, or None."""
        return next((table for table in self.tables if table.id == (schema, name)), None)
