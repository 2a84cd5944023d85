"""A finding: what, why it matters, what to run (pure)."""

from typing import Any, Literal, TypeAlias

from msgspec import Struct, field

Kind: TypeAlias = Literal["wrong", "warning", "note"]

KINDS: tuple[Kind, ...] = ("wrong", "warning", "note")


class Finding(Struct, frozen=True, kw_only=True):
    """`wrong` stops the service or loses something, a `warning` will hit some, a `note` is for the owner to know.

    `run` are statements and commands, each whole and safe on a live table, in their order; `do` is what no command
    does. `lines` are the rows of a report, `data` the same for programs. Nothing in a finding tells who a user is.
    """

    code: str
    kind: Kind
    what: str
    why: str
    run: tuple[str, ...] = ()
    do: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)


def in_order(findings: list[Finding]) -> list[Finding]:
    """Return them with what is wrong first, else in the order in which they were found."""
    return sorted(findings, key=lambda finding: KINDS.index(finding.kind))


def told(number: int | None) -> str:
    """Return a count for eyes."""
    return "not counted" if number is None else f"{number:,}"
