"""One table of the app, and what of it is ours (pure). Whatever no mapping names belongs to the app."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeAlias

import msgspec

from sync_service.clerk.values import DIGEST, WITHHELD, Snapshot, Version
from sync_service.mapping.sources import Column, Value

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMapping:
    """A table, as CONTRACT's `sync.toml` describes it.

    `email_conflict` is what is done when two users claim an address that the table takes only once: with `release`
    the older claim shows none until it is free, with `park` the event waits. `created_by` names the file of
    postgres/ with which `migrate` creates the table where there is none.
    """

    schema: str = "public"
    table: str = "users"
    clerk_id: str
    columns: Mapping[str, Column] = field(default_factory=dict)
    on_delete: Literal["cascade", "soft", "anonymize"] = "cascade"
    deleted_at: str | None = None
    delete_grace: timedelta = timedelta()
    email_conflict: Literal["release", "park"] = "release"
    link_by_verified_email: bool = False
    created_by: str | None = None
    # Made once, for they are asked for with every event.
    _values: tuple[tuple[str, Value], ...] = field(init=False, repr=False, compare=False)
    _beyond: tuple[Column, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare what is needed for every row."""
        set_ = object.__setattr__
        set_(self, "_values", tuple((name, column.reader()) for name, column in self.columns.items()))
        set_(self, "_beyond", tuple(column for column in self.columns.values() if column.beyond))

    @property
    def name(self) -> str:
        """The table's name for people."""
        return f"{self.schema}.{self.table}"

    @property
    def withheld(self) -> tuple[str, ...]:
        """The fields of Clerk's user that no column asks for by name, and that are therefore kept nowhere."""
        asked = {column.root for column in self.columns.values()}
        return tuple(name for name in WITHHELD if name not in asked)

    def row(self, snapshot: Snapshot) -> Row:
        """Return the mapped columns as values of JSON."""
        user, data = snapshot.user, self._data(snapshot)
        return {self.clerk_id: user.id} | {name: value(user, data) for name, value in self._values}

    def version(self, snapshot: Snapshot) -> Version:
        """Return the snapshot's version.

        Two snapshots of one millisecond are told apart by what they say; here also by what only this mapping reads.
        """
        tie = snapshot.version.tie
        if not (self._beyond and tie):
            return snapshot.version
        data = self._data(snapshot)
        said = msgspec.json.encode([column.value(snapshot.user, data) for column in self._beyond], order="sorted")
        digest = hashlib.blake2b(snapshot.version.content + said, digest_size=DIGEST).digest()
        return Version(snapshot.version.updated_at, tie[:-DIGEST] + digest)

    def _data(self, snapshot: Snapshot) -> dict[str, Any]:
        return _whole.decode(snapshot.said) if self._beyond else {}


_whole = msgspec.json.Decoder(dict[str, Any])
