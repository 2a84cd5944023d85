"""A finding: the problem, the reason why it matters, and the correction (pure)."""

from collections import Counter
from typing import Any, Literal, TypeAlias

from msgspec import Struct, field

Kind: TypeAlias = Literal["wrong", "warning", "note"]

KINDS: tuple[Kind, ...] = ("wrong", "warning", "note")

# More findings with the same code are printed as one, which keeps this number of steps.
MAX_SIMILAR = 3
MAX_STEPS = 12


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


def group_findings(findings: list[Finding]) -> list[Finding]:
    """Return one finding in place of several with the same code and kind, if there are more than MAX_SIMILAR."""
    numbers = Counter((finding.code, finding.kind) for finding in findings)
    grouped: dict[tuple[str, str], list[Finding]] = {}
    for number, finding in enumerate(findings):
        group = (finding.code, finding.kind)
        is_large = numbers[group] > MAX_SIMILAR
        grouped.setdefault(group if is_large else (finding.code, str(number)), []).append(finding)
    return [_merge(found) if len(found) > 1 else found[0] for found in grouped.values()]


def _merge(findings: list[Finding]) -> Finding:
    """Return one finding for similar ones."""
    names = [finding.what.partition(": ")[0] for finding in findings]
    others = len(names) - MAX_SIMILAR
    shown = f"{', '.join(names[:MAX_SIMILAR])} and {others} more"
    first = findings[0]
    steps = list(dict.fromkeys(step for finding in findings for step in finding.do))
    if any(finding.run for finding in findings) or len(steps) > MAX_STEPS:
        steps = [*steps[:MAX_STEPS], "to see each of them with its correction, run: sync-service doctor --all"]
    return Finding(
        code=first.code,
        kind=first.kind,
        what=f"{len(findings)} similar findings: {shown}; the first is: {first.what}",
        why=first.why,
        do=tuple(steps),
    )


def add_article(noun: str) -> str:
    """Return the noun of an entity with its article: `a user`, `an organization`."""
    return f"{'an' if noun.startswith('o') else 'a'} {noun}"


def format_count(number: int | None) -> str:
    """Return a count with separators for thousands."""
    return "not counted" if number is None else f"{number:,}"


def format_number_of(number: int | None, noun: str) -> str:
    """Return a count with its noun: `1 row`, `2 rows`."""
    return f"{format_count(number)} {noun}" if number == 1 else f"{format_count(number)} {noun}s"
