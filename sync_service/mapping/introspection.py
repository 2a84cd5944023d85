"""A table of the app from PostgreSQL's catalogue: columns, types, indexes, and the privileges of our role."""

import re
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from sync_service.postgres.pool import Connection
from sync_service.postgres.sql import quote_ident, read_sql


class Column(Struct, frozen=True):
    """A column of the table.

    `type` is for messages (`character varying(100)`); `base` is the type below any domain (`varchar`, `timestamptz`).
    `category` is pg_type.typcategory: S text, D time, E enum, A array, N number, B boolean, U others.
    `length` is the maximum in characters. A `generated` column cannot be written. `expression` is the SQL of its value,
    or of the default. `plain_type` is the type below any domain with its length, for SQL. `filled_by` is a trigger that
    sets the column in a new row.
    """

    name: str
    type: str
    base: str
    category: str
    length: int | None
    not_null: bool
    has_default: bool
    generated: bool
    expression: str | None = None
    labels: tuple[str, ...] = ()
    plain_type: str = ""
    filled_by: str | None = None

    @property
    def needs_value(self) -> bool:
        """Whether a new row without a value is refused."""
        return self.not_null and not (self.has_default or self.generated or self.filled_by)


class Index(Struct, frozen=True):
    """An index. `keys` are names of columns, or expressions such as `lower(email)`.

    `unique` indexes can decide an ON CONFLICT. `exclusive` ones refuse a row because of another one: they are unique,
    perhaps deferrable, or belong to an exclusion constraint. `operators` (`operator(pg_catalog.=)`) and `collations`
    compare their keys.
    """

    name: str
    unique: bool
    primary: bool
    valid: bool
    partial: bool
    keys: tuple[str, ...]
    exclusive: bool = False
    predicate: str | None = None
    nulls_not_distinct: bool = False
    operators: tuple[str, ...] = ()
    collations: tuple[str | None, ...] = ()


class Table(Struct, frozen=True):
    """A table, or a view under the name of a table.

    `kind` is pg_class.relkind: r and p are tables. `row_security`: policies apply to our role.
    `bytes` is the size without its indexes. `rules` are names, each with its event (`insert`).
    `blocking_publications` publish updates, but the table has no replica identity, so PostgreSQL refuses every update.
    `schema_usable`: our role may use the schema. `inaccessible_sequences` supply defaults; our role may not use them.
    """

    schema: str
    name: str
    oid: int
    kind: str
    row_security: bool
    privileges: frozenset[str]
    triggers: tuple[str, ...]
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    schema_usable: bool = True
    inaccessible_sequences: tuple[str, ...] = ()
    bytes: int = 0
    rules: Mapping[str, str] = {}
    blocking_publications: tuple[str, ...] = ()

    def column(self, name: str | None) -> Column | None:
        """Return the column with that name, or None."""
        return next((column for column in self.columns if column.name == name), None)

    def is_unique_on(self, *keys: str) -> bool:
        """Return whether a unique index on exactly these keys exists; an invalid or partial one does not count."""
        return any(i.unique and i.valid and not i.partial and set(i.keys) == set(keys) for i in self.indexes)

    def identifies_by(self, column: str) -> bool:
        """Return whether a unique index has each value of the column; one that leaves out only null does."""
        forms = {f"({name} IS NOT NULL)" for name in (column, quote_ident(column))}
        return self.is_unique_on(column) or any(
            i.unique and i.valid and i.keys == (column,) and i.predicate in forms for i in self.indexes
        )

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The columns of the primary key; empty without a primary key."""
        return next((index.keys for index in self.indexes if index.primary), ())


def refers_to(expression: str, column: str) -> bool:
    """Return whether an expression, as PostgreSQL prints it, contains the column; a column's name is one too."""
    names = {re.escape(column), re.escape(quote_ident(column))}
    return bool(re.search(rf'(?<![\w"])(?:{"|".join(names)})(?![\w"])', expression))


async def read_table(connection: Connection, schema: str, name: str) -> Table | None:
    """Return the table or None; views are included, so that a check can report them. Raises errors of asyncpg."""
    row = await connection.fetchrow(_SQL, schema, name)
    if row is None:
        return None
    found = {key: msgspec.json.decode(value) if key in _JSON else value for key, value in row.items()}
    return msgspec.convert(found, Table)


_JSON = frozenset(
    {"privileges", "triggers", "columns", "indexes", "inaccessible_sequences", "rules", "blocking_publications"}
)
_SQL = read_sql(__package__, "read_table.sql")
