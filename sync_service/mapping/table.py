"""Mapping of one table of the app (pure). Columns that the mapping does not name belong to the app."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal, TypeAlias

import msgspec

from sync_service.clerk.change import Snapshot, Version
from sync_service.clerk.entities import ENTITIES, SESSION, USER, Entity
from sync_service.clerk.objects import REQUEST_FIELD
from sync_service.clerk.user import REDACTED_FIELDS
from sync_service.mapping.carry_over import CarryOverTable
from sync_service.mapping.fields import FieldSource, Value
from sync_service.mapping.generators import NOW

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMapping:
    """A table, as `sync.toml` describes it.

    `email_conflict` applies if two users claim the same email and the table requires it to be unique. With `release`,
    the row with the older claim has no email until it is free again; with `park`, the event waits. `deleted` are the
    columns that mark a deleted user, and their values; `deleted_at` is one more, a time or a boolean. `created_by` is
    the file in mapping/sql/ with which `migrate` creates a missing table. `records_changes`: changes are recorded in
    `clerk_sync.changes`. `notifies`: each one is also posted to the app. `carry_over`: the tables that take data from
    before sign-up. `entity` is the object of Clerk that the rows show, `keep` the age at which the service deletes the
    row of an ended session. `related` are the mappings of the other entities, which that of the users has.
    `has_children`: rows of another table wait for those of this one.
    """

    schema: str = "public"
    table: str = "users"
    id_column: str
    columns: Mapping[str, FieldSource] = field(default_factory=dict)
    on_delete: Literal["cascade", "soft", "anonymize"] = "cascade"
    deleted_at: str | None = None
    deleted: Mapping[str, FieldSource] = field(default_factory=dict)
    delete_grace: timedelta = timedelta()
    email_conflict: Literal["release", "park"] = "release"
    link_by_verified_email: bool = False
    link_by_external_id: bool = False
    created_by: str | None = None
    entity: str = USER.name
    keep: timedelta | None = None
    related: tuple["TableMapping", ...] = ()
    has_children: bool = False
    records_changes: bool = False
    notifies: bool = False
    carry_over: tuple[CarryOverTable, ...] = ()
    # Computed once, because each event uses them.
    _computed: tuple[tuple[str, Callable[[Any], Any]], ...] = field(init=False, repr=False, compare=False)
    _readers: tuple[tuple[str, Value], ...] = field(init=False, repr=False, compare=False)
    _raw_json_columns: tuple[FieldSource, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute the values that each row needs."""
        set_ = object.__setattr__
        given = [(name, column) for name, column in self.columns.items() if not column.is_now]
        set_(self, "_computed", tuple((name, column.computed) for name, column in given if column.computed))
        set_(self, "_readers", tuple((name, column.make_reader()) for name, column in given if not column.computed))
        set_(
            self,
            "_raw_json_columns",
            tuple(c for c in self.columns.values() if c.needs_raw_json and not c.is_parent_key),
        )

    @property
    def name(self) -> str:
        """The qualified name, for messages and the log."""
        return f"{self.schema}.{self.table}"

    @property
    def needs_raw_json(self) -> bool:
        """Whether a row needs Clerk's whole JSON of the user."""
        return bool(self._raw_json_columns)

    @property
    def links_rows(self) -> bool:
        """Whether a new user may get a row from before Clerk."""
        return self.link_by_verified_email or self.link_by_external_id

    @property
    def deletion_marks(self) -> dict[str, FieldSource]:
        """The columns that mark a deleted user, `deleted_at` included."""
        short_form = {self.deleted_at: FieldSource(None, generate=NOW)} if self.deleted_at else {}
        return short_form | dict(self.deleted)

    @property
    def deletion_type(self) -> str:
        """The type of the events that delete an entity of this table."""
        return self.kind.deletion

    @property
    def kind(self) -> Entity:
        """The kind of Clerk's object."""
        return ENTITIES[self.entity]

    def with_recording(self, *, notifies: bool) -> "TableMapping":
        """Return the mapping with recorded changes, and the related ones too."""
        related = tuple(other.with_recording(notifies=notifies) for other in self.related)
        return replace(self, records_changes=True, notifies=notifies, related=related)

    @property
    def all(self) -> tuple["TableMapping", ...]:
        """This mapping and the related ones, parents first."""
        order = list(ENTITIES)
        return tuple(sorted((self, *self.related), key=lambda mapping: order.index(mapping.entity)))

    @property
    def redacted_fields(self) -> tuple[str, ...]:
        """The fields of Clerk's object that are not stored in any table, because no column names them."""
        named = {root for column in self.columns.values() for root in column.root_fields}
        redacted = (*REDACTED_FIELDS, REQUEST_FIELD) if self.entity == SESSION.name else REDACTED_FIELDS
        return tuple(name for name in redacted if name not in named)

    def build_row(self, snapshot: Snapshot) -> Row:
        """Return the values of the mapped columns, in JSON's types; not the times of a write."""
        resource, data = snapshot.resource, snapshot.data
        row = {self.id_column: resource.id}
        for name, compute in self._computed:
            row[name] = compute(resource)
        for name, read in self._readers:
            row[name] = read(resource, data)
        return row

    def compute_version(self, snapshot: Snapshot) -> Version:
        """Return the snapshot's version for this mapping.

        The digest orders two snapshots of the same millisecond. Here it also covers the values that only this mapping
        reads from Clerk's JSON.
        """
        tiebreak = snapshot.version.tiebreak
        if not (self._raw_json_columns and tiebreak):
            return snapshot.version
        values = [column.read_value(snapshot.resource, snapshot.data) for column in self._raw_json_columns]
        return snapshot.version.with_content(msgspec.json.encode(values, order="sorted"), snapshot.resource)
