"""The facts about the users table on which a suggestion rests (pure)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from msgspec import Struct

from sync_service.mapping.introspection import Column, Table, refers_to
from sync_service.suggest.links import Link
from sync_service.suggest.overview import Overview, Reference, TableOverview

# The tables in which a framework records its migrations, by the name of the framework.
_FRAMEWORKS = {
    "Prisma": {"_prisma_migrations"},
    "Drizzle": {"__drizzle_migrations"},
    "Django": {"django_migrations"},
    "SQLAlchemy": {"alembic_version"},
    "Rails": {"ar_internal_metadata"},
    "Sequelize": {"SequelizeMeta"},
    "TypeORM": {"typeorm_metadata"},
    "Entity Framework": {"__EFMigrationsHistory"},
    # Tools for migrations only. Rails has `schema_migrations` too.
    "the app": {
        *("flyway_schema_history", "databasechangelog", "goose_db_version", "gorp_migrations", "schema_migrations"),
        *("migrations", "knex_migrations"),
    },
}
_DJANGO_USER = {"password", "last_login", "is_superuser", "is_staff", "is_active"}
_LITERAL = re.compile(r"'((?:[^']|'')*)'")
_REFUSING = {"a": "NO ACTION", "r": "RESTRICT"}


class Check(Struct, frozen=True):
    """A check constraint."""

    columns: tuple[str, ...]
    definition: str


class Trigger(Struct, frozen=True):
    """A trigger of the app, with the source of its function."""

    name: str
    before: bool
    on_insert: bool
    on_update: bool
    source: str


@dataclass(frozen=True, slots=True)
class ColumnRows:
    """A column in the sample of rows: the number of values, and the frequent values of a column that holds categories.

    `later` counts the rows in which the time is after the time of their creation.
    """

    values: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    later: int = 0

    @property
    def most_common(self) -> str | None:
        """The most frequent value; None without values of categories."""
        return max(self.labels, key=lambda label: self.labels[label], default=None)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The users table, its rows and its surroundings.

    `clerk_id` is the column of the Clerk ID; None if the table has none. `keys` are samples of keys and codes, by
    column. `other_keys` are keys of other tables, for an empty users table. `refusals` are the child tables that refuse
    the deletion of a user, with the reason. `framework` is the framework that keeps the schema.
    """

    table: Table
    clerk_id: str | None
    rows: int = 0
    columns: Mapping[str, ColumnRows] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    other_keys: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    references: tuple[Reference, ...] = ()
    refusals: Mapping[str, str] = field(default_factory=dict)
    framework: str | None = None
    link: Link | None = None

    @property
    def is_keyed_by_clerk(self) -> bool:
        """Whether the primary key is the Clerk ID."""
        return (self.clerk_id,) == self.table.primary_key

    @property
    def is_django_user(self) -> bool:
        """Whether the table has the columns of Django's AbstractUser."""
        return {column.name for column in self.table.columns} >= _DJANGO_USER

    def read_rows(self, column: str) -> ColumnRows:
        """Return the facts about a column in the sample of rows."""
        return self.columns.get(column, ColumnRows())

    def find_reference(self, column: str) -> Reference | None:
        """Return the foreign key of a column, or None."""
        return next((found for found in self.references if column in found.columns), None)

    def list_checks(self, column: str) -> list[Check]:
        """Return the check constraints on a column."""
        return [check for check in self.checks if column in check.columns]

    def list_labels(self, column: Column) -> list[str]:
        """Return the values that an enum or a check constraint permits; empty if any value is permitted."""
        if column.labels:
            return list(column.labels)
        checks = (check for check in self.list_checks(column.name) if check.columns == (column.name,))
        return next(filter(None, map(_parse_labels, checks)), [])

    def is_unique(self, column: str) -> bool:
        """Return whether two users may not have one value: in a unique index without the Clerk ID, which differs."""
        indexes = (index for index in self.table.indexes if index.unique and self.clerk_id not in index.keys)
        return any(refers_to(key, column) for index in indexes for key in index.keys)

    def find_trigger(self, column: str) -> Trigger | None:
        """Return a trigger that sets the column before an update."""
        assigned = re.compile(rf'(?i)\bnew\s*\.\s*"?{re.escape(column)}"?\s*:?=')
        for trigger in self.triggers:
            if trigger.before and trigger.on_update and assigned.search(trigger.source):
                return trigger
        return None


def _parse_labels(check: Check) -> list[str]:
    """Return the values of a constraint that only compares the column with texts, such as `role IN ('a', 'b')`."""
    conditions = _LITERAL.sub("", check.definition)
    if re.search(r"[<>~+]|\bAND\b|\bNOT\b|length\(", conditions):
        return []
    return [text.replace("''", "'") for text in _LITERAL.findall(check.definition)]


def find_framework(overview: Overview, table: Table) -> str | None:
    """Return the framework that keeps the schema, by the table of its migrations; None if there is none."""
    names = {table.name for table in overview.tables}
    for framework, tables in _FRAMEWORKS.items():
        if tables & names:
            return framework
    # Prisma writes times with three digits unless its schema says otherwise.
    return "Prisma" if any(c.type == "timestamp(3) without time zone" for c in table.columns) else None


def is_of_app(table: TableOverview) -> bool:
    """Return whether the app, and not the framework that keeps the schema, writes a table that can be read."""
    return table.readable and not any(table.name in tables for tables in _FRAMEWORKS.values())


def find_refusals(overview: Overview, table: TableOverview) -> dict[str, str]:
    """Return the tables below the users table that refuse a deletion, through any number of cascades."""
    refusals: dict[str, str] = {}
    pending, seen = [table.id], {table.id}
    while pending:
        for child, reference in _list_children(overview, pending.pop()):
            if reference.on_delete in _REFUSING and child.id != table.id:
                refusals[child.display_name] = _REFUSING[reference.on_delete]
            elif reference.on_delete == "c" and child.id not in seen:
                seen.add(child.id)
                pending.append(child.id)
    return refusals


def _list_children(overview: Overview, parent: tuple[str, str]) -> Iterator[tuple[TableOverview, Reference]]:
    for child in overview.tables:
        for reference in child.references:
            if reference.parent == parent:
                yield child, reference
