"""A mapping held against the table that is there (pure): how each column is to be written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sync_service.clerk.values import Snapshot
from sync_service.mapping import sources
from sync_service.mapping.table import Row, TableMapping
from sync_service.postgres.catalogue import Column, Table
from sync_service.postgres.conversion import converted, is_particular
from sync_service.postgres.obstacles import obstacles

# Cut, these would name nobody, or somebody else: what does not fit is refused, and told.
NAMES_ONE = frozenset({"id", "primary_email", "primary_phone", "username", "external_id"})


@dataclass(frozen=True, slots=True)
class Fit:
    """A mapping that fits, less what is not to be written, and the type of each of its columns in the table.

    `email` is the column whose address the table takes only once, if there is one, and `folded` whether it does so in
    any case of letters. `address` is where linking looks. `key` is the app's own key. `particular` are the columns that
    not every value of JSON fits as it is.
    """

    mapping: TableMapping
    table: Table
    types: Mapping[str, Column]
    email: str | None
    folded: bool
    address: str | None
    key: str
    particular: tuple[tuple[str, Column], ...]

    @property
    def writes_id(self) -> bool:
        """Whether the Clerk ID is written, and not generated from another column."""
        return not self.types[self.mapping.clerk_id].generated

    @property
    def addresses(self) -> list[str]:
        """The columns that show the address."""
        return [name for name, column in self.mapping.columns.items() if column.source == "primary_email"]

    @property
    def release(self) -> str | None:
        """What stands for an address that is given up: null as None, or a text with `{clerk_id}` in it."""
        return self.nobody(self.email) if self.email else None

    @property
    def releases(self) -> bool:
        """Whether the older of two claims to an address gives it up."""
        return self.mapping.email_conflict == "release" and (self.email is None or self.gives_up(self.email))

    def gives_up(self, column: str) -> bool:
        """Return whether the column can be without the address at all."""
        return not self.types[column].not_null or self.nobody(column) is not None

    def nobody(self, column: str) -> str | None:
        """Return what that column shows of nobody."""
        when_null = self.mapping.columns[column].when_null
        return when_null if isinstance(when_null, str) else None

    def row(self, snapshot: Snapshot) -> tuple[Row, list[str]]:
        """Return the row in forms that the columns take, and the columns in which something was cut off."""
        row = self.mapping.row(snapshot)
        cut: list[str] = []
        for name, column in self.particular:
            spec = self.mapping.columns.get(name)
            row[name], short = converted(row[name], column, cut=spec is not None and spec.source not in NAMES_ONE)
            if short:
                cut.append(name)
        return row, cut


def fit(mapping: TableMapping, table: Table | None) -> tuple[Fit | None, list[str]]:
    """Return how the mapping fits, or why it cannot: sentences that begin with the name of what stands in the way."""
    if table is None:
        made = "; `sync-service migrate` makes it" if mapping.created_by else ""
        return None, [f"{mapping.name}: there is no such table{made}"]
    faults = list(obstacles(mapping, table))
    if faults:
        return None, faults
    columns = {name: _stands_in(c, table, name) for name, c in mapping.columns.items() if _written(table, name)}
    types = {name: column for name in (mapping.clerk_id, *columns) if (column := table.column(name))}
    addresses = [name for name, column in mapping.columns.items() if column.source == "primary_email"]
    once = [name for name in addresses if name in columns and _once(table, name)]
    generated = any(column.generated for column in table.columns)
    if not generated:  # nobody reads what `$` gets beside Clerk's own
        columns = {name: replace(column, also={}) for name, column in columns.items()}
    return (
        Fit(
            mapping=replace(mapping, columns=columns),
            table=table,
            types=types,
            email=once[0] if once else None,
            folded=bool(once) and _folded(table, once[0]),
            address=next((name for name in addresses if table.column(name)), None),
            particular=tuple((name, column) for name, column in types.items() if is_particular(column)),
            key=table.primary_key[0] if len(table.primary_key) == 1 else mapping.clerk_id,
        ),
        [],
    )


def _written(table: Table, name: str) -> bool:
    column = table.column(name)
    return column is not None and not column.generated


def _stands_in(spec: sources.Column, table: Table, name: str) -> sources.Column:
    """Return a preset's column with what stands in for null only where the table insists on it."""
    column = table.column(name)
    if spec.optional and column and not column.not_null:
        return replace(spec, when_null=None)
    return spec


def _once(table: Table, name: str) -> bool:
    return _folded(table, name) or any(i.unique and i.keys == (name,) for i in table.indexes)


def _folded(table: Table, name: str) -> bool:
    """Return whether an index takes the address once in any case of letters, as `lower(email)` does."""
    forms = {f"lower({name})", f"lower({name}::text)", f'lower("{name}")', f'lower("{name}"::text)'}
    return any(i.unique and len(i.keys) == 1 and i.keys[0] in forms for i in table.indexes)
