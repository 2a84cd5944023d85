"""A reference model of the ordering rules: the result of one change as a pure function of values.

    state            Snapshot, newer   Snapshot, the same   Snapshot, older   Deletion
    unknown          SAVE              -                    -                 DELETE
    a version        SAVE              SAME                 STALE             DELETE
    deleted          STALE             STALE                STALE             SAME

Changes in any order, each any number of times, end in the same state. test_apply.py compares the SQL in sync_service
with this model.
"""

from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import assert_never

from sync_service.clerk.change import Change, Deletion, Snapshot, Version
from sync_service.clerk.user import User


class Decision(Enum):
    """The result of one change."""

    SAVE = "save"
    DELETE = "delete"
    SAME = "same"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Identity:
    """The state of a Clerk ID: the version that its row shows, or None once the user is deleted."""

    version: Version | None

    @property
    def deleted(self) -> bool:
        """Whether the user is deleted; no later change brings the row back."""
        return self.version is None


def decide(change: Change, known: Identity | None) -> Decision:
    """Return the decision for `change`, where `known` is the state of its user; None is an unknown user."""
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
            same = (version.updated_at, version.digest) == (known.version.updated_at, known.version.digest)
            return Decision.SAME if same else Decision.STALE
        case _:
            assert_never(change)


def join(change: Change, known: Identity | None) -> Identity:
    """Return the state of the user after `change`."""
    if isinstance(change, Deletion):
        return Identity(None)
    if known and decide(change, known) is not Decision.SAVE:
        return known
    return Identity(change.version)


USER = User(id="user_1", updated_at=1)
CHANGES: list[Change] = [
    *(Snapshot(USER, Version(instant, tie)) for instant in (1, 2) for tie in (b"a", b"b")),
    Deletion("user_1"),
]
# Every sequence of one to four changes: 5 + 25 + 125 + 625. Two instants and two tiebreaks reach every case above.
HISTORIES = [history for length in (1, 2, 3, 4) for history in product(CHANGES, repeat=length)]
