"""Mapping of one table of the app (pure). Columns that the mapping does not name belong to the app."""

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
    """A table, as `sync.toml` describes it.

    `email_conflict` applies if two users claim the same email and the table requires it to be unique. With `release`,
    the row with the older claim has no email until it is free again; with `park`, the event waits. `created_by` is the
    file in postgres/ with which `migrate` creates a missing table.
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
    # Computed once, because each event uses them.
    _readers: tuple[tuple[str, Value], ...] = field(init=False, repr=False, compare=False)
    _raw_json_columns: tuple[Column, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute the values that each row needs."""
        set_ = object.__setattr__
        set_(self, "_readers", tuple((name, column.reader()) for name, column in self.columns.items()))
        set_(self, "_raw_json_columns", tuple(column for column in self.columns.values() if column.beyond))

    @property
    def name(self) -> str:
        """The qualified name, for messages and the log."""
        return f"{self.schema}.{self.table}"

    @property
    def withheld(self) -> tuple[str, ...]:
        """The fields of Clerk's user that are not stored in any table, because no column names them."""
        named = {column.root for column in self.columns.values()}
        return tuple(name for name in WITHHELD if name not in named)

    def row(self, snapshot: Snapshot) -> Row:
        """Return the values of the mapped columns, in JSON's types."""
        user, data = snapshot.user, self._decode_raw_json(snapshot)
        return {self.clerk_id: user.id} | {name: read(user, data) for name, read in self._readers}

    def version(self, snapshot: Snapshot) -> Version:
        """Return the snapshot's version for this mapping.

        The digest orders two snapshots of the same millisecond. Here it also covers the values that only this mapping
        reads from Clerk's JSON.
        """
        tie = snapshot.version.tie
        if not (self._raw_json_columns and tie):
            return snapshot.version
        data = self._decode_raw_json(snapshot)
        values = [column.value(snapshot.user, data) for column in self._raw_json_columns]
        content = snapshot.version.content + msgspec.json.encode(values, order="sorted")
        digest = hashlib.blake2b(content, digest_size=DIGEST).digest()
        return Version(snapshot.version.updated_at, tie[:-DIGEST] + digest)

    def _decode_raw_json(self, snapshot: Snapshot) -> dict[str, Any]:
        return _decoder.decode(snapshot.said) if self._raw_json_columns else {}


_decoder = msgspec.json.Decoder(dict[str, Any])
