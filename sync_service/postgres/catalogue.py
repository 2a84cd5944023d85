"""A table of the app as PostgreSQL's catalogue knows it: columns, types, indexes, what we may do there."""

from importlib.resources import files

import msgspec
from msgspec import Struct

from sync_service.postgres.pool import Connection


class Column(Struct, frozen=True):
    """`type` is for people (`character varying(100)`), `base` the type below any domain (`varchar`, `timestamptz`).

    `category` is PostgreSQL's (pg_type.typcategory): S text, D time, E enum, A array, N number, B boolean, U others.
    `length` is in characters. `generated` columns cannot be written.
    """

    name: str
    type: str
    base: str
    category: str
    length: int | None
    not_null: bool
    has_default: bool
    generated: bool
    labels: tuple[str, ...] = ()


class Index(Struct, frozen=True):
    """`keys` are names of columns, or expressions such as `lower(email)`."""

    name: str
    unique: bool
    primary: bool
    valid: bool
    partial: bool
    keys: tuple[str, ...]


class Table(Struct, frozen=True):
    """`kind` is pg_class.relkind: r and p are tables. `row_security`: policies apply to us.

    `usable`: we may use its schema. `closed_sequences` are those that its defaults draw from and we may not.
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
    usable: bool = True
    closed_sequences: tuple[str, ...] = ()

    def column(self, name: str | None) -> Column | None:
        """Return the column of that name, if there is one."""
        return next((column for column in self.columns if column.name == name), None)

    def unique_on(self, *keys: str) -> bool:
        """Return whether an index takes these keys together only once, whatever else is in the row."""
        return any(i.unique and i.valid and not i.partial and set(i.keys) == set(keys) for i in self.indexes)

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The columns of the primary key, none without one."""
        return next((index.keys for index in self.indexes if index.primary), ())


async def read_table(connection: Connection, schema: str, name: str) -> Table | None:
    """Return the table (or view, to say that it is one), or None. Raises what asyncpg raises."""
    row = await connection.fetchrow(_SQL, schema, name)
    if row is None:
        return None
    found = {key: msgspec.json.decode(value) if key in _JSON else value for key, value in row.items()}
    return msgspec.convert(found, Table)


_JSON = frozenset({"privileges", "triggers", "columns", "indexes", "closed_sequences"})
_SQL = files(__package__).joinpath("catalogue.sql").read_text(encoding="utf-8")
