"""Statements for the owner to run, safe on a live table (pure).

No lock that stops readers or writers is waited for longer than a second: what needs one gives up instead, and is run
again. An index is built CONCURRENTLY, a constraint is added NOT VALID and validated afterwards. Each text is whole.
"""

from collections.abc import Sequence

from sync_service.postgres.catalogue import Table
from sync_service.postgres.statements import quoted
from sync_service.postgres.survey import ForeignKey, LooseColumn

LONGEST_NAME = 63

ACTIONS = {"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}


def add_column(table: Table, column: str, kind: str) -> str:
    """Return what adds a column that may be null: the catalogue changes, no row does."""
    return _altered(table.schema, table.name, f"add column {quoted(column)} {kind}")


def widen(schema: str, table: str, column: str) -> str:
    """Return what makes a varchar a text: the catalogue changes, no row does."""
    return _altered(schema, table, f"alter column {quoted(column)} type text")


def allow_null(table: Table, column: str) -> str:
    """Return what lets a column be null."""
    return _altered(table.schema, table.name, f"alter column {quoted(column)} drop not null")


def unique_index(table: Table, column: str) -> tuple[str, ...]:
    """Return what makes a column unique; a half-built index, as a failed attempt leaves it, is dropped first."""
    broken = [index.name for index in table.indexes if not index.valid and index.keys == (column,)]
    drops = [f"drop index concurrently {quoted(table.schema)}.{quoted(name)};" for name in broken]
    taken = {index.name for index in table.indexes} - set(broken)
    name = _name([table.name, column, "key"], taken)
    return (*drops, f"create unique index concurrently {quoted(name)} on {_table(table)} ({quoted(column)});")


def twice(table: Table, column: str) -> str:
    """Return the query that lists what stands in a column more than once."""
    return (
        f"select {quoted(column)}, count(*) from {_table(table)} where {quoted(column)} is not null"  # noqa: S608  quoted
        f" group by {quoted(column)} having count(*) > 1;"
    )


def lower_index(table: Table, column: str) -> str:
    """Return what makes an address quick to find in any case of letters."""
    name = _name([table.name, column, "lower", "idx"], {index.name for index in table.indexes})
    return f"create index concurrently {quoted(name)} on {_table(table)} (lower({quoted(column)}));"


def index(schema: str, table: str, columns: Sequence[str]) -> str:
    """Return what makes rows quick to find by these columns."""
    listed = ", ".join(map(quoted, columns))
    name = _name([table, *columns, "idx"], set())
    return f"create index concurrently {quoted(name)} on {quoted(schema)}.{quoted(table)} ({listed});"


def cascade(key: ForeignKey) -> tuple[str, ...]:
    """Return what makes a foreign key take its rows along when the user goes."""
    listed, referred = (", ".join(map(quoted, names)) for names in (key.columns, key.parent_columns))
    again = (
        f"drop constraint {quoted(key.name)}, add constraint {quoted(key.name)} foreign key ({listed})"
        f" references {quoted(key.parent_schema)}.{quoted(key.parent_table)} ({referred}) on delete cascade not valid"
    )
    return _altered(key.schema, key.table, again), validate(key.schema, key.table, key.name)


def validate(schema: str, table: str, name: str) -> str:
    """Return what checks the rows that were there before the constraint; reads and writes go on."""
    return f"alter table {quoted(schema)}.{quoted(table)} validate constraint {quoted(name)};"


def add_foreign_key(loose: LooseColumn, table: Table, column: str) -> tuple[str, ...]:
    """Return what binds a column to the users table, with an index first where there is none."""
    name = _name([loose.table, loose.column, "fkey"], set())
    made = () if loose.indexed else (index(loose.schema, loose.table, [loose.column]),)
    added = (
        f"add constraint {quoted(name)} foreign key ({quoted(loose.column)})"
        f" references {_table(table)} ({quoted(column)}) on delete cascade not valid"
    )
    return (*made, _altered(loose.schema, loose.table, added), validate(loose.schema, loose.table, name))


def add_beside(loose: LooseColumn, column: str) -> str:
    """Return what adds a column of text to another table."""
    return _altered(loose.schema, loose.table, f"add column {quoted(column)} text")


def list_orphans(
    schema: str, table: str, columns: Sequence[str], parent: tuple[str, str], parent_columns: Sequence[str]
) -> str:
    """Return the query that lists the rows whose user is not there; `parent` is schema and table."""
    set_ = " and ".join(f"child.{quoted(name)} is not null" for name in columns)
    same = " and ".join(
        f"parent.{quoted(theirs)} = child.{quoted(ours)}" for ours, theirs in zip(columns, parent_columns, strict=True)
    )
    return (
        f"select child.* from {quoted(schema)}.{quoted(table)} as child"  # noqa: S608  quoted names
        f" where {set_} and not exists (select from {'.'.join(map(quoted, parent))} as parent where {same});"
    )


def grant(table: Table, privileges: Sequence[str], role: str) -> tuple[str, ...]:
    """Return what lets a role work on the table; its owner runs it."""
    return (
        grant_schema(table.schema, role),
        f"grant {', '.join(privileges).lower()} on {_table(table)} to {quoted(role)};",
    )


def grant_schema(schema: str, role: str) -> str:
    """Return what lets a role use a schema; its owner runs it."""
    return f"grant usage on schema {quoted(schema)} to {quoted(role)};"


def grant_sequence(sequence: str, role: str) -> str:
    """Return what lets a role draw a default from a sequence, named as PostgreSQL prints it."""
    return f"grant usage on sequence {sequence} to {quoted(role)};"


def grant_ours(role: str) -> tuple[str, ...]:
    """Return what lets a role work on the tables of the service, where another one migrates."""
    return (
        f"grant usage on schema clerk_sync to {quoted(role)};",
        f"grant select, insert, update, delete on all tables in schema clerk_sync to {quoted(role)};",
    )


def grant_create(role: str, database: str) -> str:
    """Return what lets a role make the service's schema."""
    return f"grant create on database {quoted(database)} to {quoted(role)};"


def bypass_row_security(role: str) -> str:
    """Return what shows a role all rows; a superuser runs it."""
    return f"alter role {quoted(role)} bypassrls;"


def _altered(schema: str, table: str, what: str) -> str:
    # In a transaction with a limit of its own, so that it holds behind a pooler too.
    return f"begin; set local lock_timeout = '1s'; alter table {quoted(schema)}.{quoted(table)} {what}; commit;"


def _table(table: Table) -> str:
    return f"{quoted(table.schema)}.{quoted(table.name)}"


def _name(parts: Sequence[str], taken: set[str]) -> str:
    """Return a name as PostgreSQL would give it, cut where it would cut it."""
    *begin, end = parts
    stem = "_".join(begin).encode()
    for number in range(1, 100):
        suffix = f"_{end}{number if number > 1 else ''}"
        name = stem[: LONGEST_NAME - len(suffix)].decode(errors="ignore") + suffix
        if name not in taken:
            return name
    return name
