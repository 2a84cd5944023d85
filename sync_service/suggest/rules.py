"""The decision about one column: the rule that fills it, or the reason for none (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Spec: TypeAlias = str | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """A rule in the form of `sync.toml`, or None for a column that stays the app's; and the reason.

    `unsolved`: every insert needs a value, and no fact shows which one.
    """

    spec: Spec | None
    reason: str = ""
    unsolved: bool = False


def leave(reason: str = "") -> Decision:
    """Leave the column to the app."""
    return Decision(None, reason)


def give_up(reason: str) -> Decision:
    """Report a column that needs a value that cannot be guessed."""
    return Decision(None, reason, unsolved=True)


def write_once(spec: Mapping[str, Any], reason: str) -> Decision:
    """Fill the column on insert only."""
    return Decision({**spec, "write": "insert"}, reason)
