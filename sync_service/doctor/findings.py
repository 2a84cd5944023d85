"""A finding: the problem, the reason why it matters, and the correction (pure)."""

from typing import Any, Literal, TypeAlias

from msgspec import Struct, field

Kind: TypeAlias = Literal["wrong", "warning", "note"]

KINDS: tuple[Kind, ...] = ("wrong", "warning", "note")


class Finding(Struct, frozen=True, kw_only=True):
    """One result of a check. It never contains personal data; programs read it as JSON.

    `kind`: `wrong` stops the service or loses data, a `warning` affects some users, a `note` is information.
    `what` states the problem, `why` the consequence.
    `run` has complete statements and commands in their order; each is safe on a live table.
    `do` has the steps that no command can do. `lines` are the rows of a report, `data` the same for programs.
    """

    code: str
    kind: Kind
    what: str
    why: str
    run: tuple[str, ...] = ()
    do: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)


def sort_findings(findings: list[Finding]) -> list[Finding]:
    """Return the findings sorted by kind, `wrong` first; the sort is stable."""
    return sorted(findings, key=lambda finding: KINDS.index(finding.kind))


def format_count(number: int | None) -> str:
    """Return a count with separators for thousands."""
    return "not counted" if number is None else f"{number:,}"
