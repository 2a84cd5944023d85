"""What becomes of a change, as a function of values; everything that affects it lives in this file.

    known            Snapshot, newer   Snapshot, the same   Snapshot, older   Deletion
    nobody           SAVE              -                    -                 DELETE
    a version        SAVE              SAME                 STALE             DELETE
    deleted          STALE             STALE                STALE             SAME

An identity is a join: whatever the order and however often the changes arrive, they end in the same place. The SQL
in postgres/changes.sql is held against this table by a test.
"""

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from sync_service.clerk.values import Change, Deletion, Snapshot, Version


class Decision(Enum):
    """What a change comes to."""

    SAVE = "save"
    DELETE = "delete"
    SAME = "same"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a Clerk ID: the version its row shows, or None once it is deleted."""

    version: Version | None

    @property
    def deleted(self) -> bool:
        """Whether nothing can bring it back."""
        return self.version is None


def decide(change: Change, known: Identity | None) -> Decision:
    """Return what becomes of `change` when `known` is what is known of its user."""
    match change:
        case Deletion():
            return Decision.SAME if known and known.deleted else Decision.DELETE
        case Snapshot(version=version):
            if known is None:
                return Decision.SAVE
            if known.version is None:
                return Decision.STALE
            if version > known.version:
                return Decision.SAVE
            same = (version.updated_at, version.content) == (known.version.updated_at, known.version.content)
            return Decision.SAME if same else Decision.STALE
        case _:
            assert_never(change)


def join(change: Change, known: Identity | None) -> Identity:
    """Return what is known after `change`."""
    if isinstance(change, Deletion):
        return Identity(None)
    if known and decide(change, known) is not Decision.SAVE:
        return known
    return Identity(change.version)
