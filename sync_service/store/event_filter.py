"""A selection of events, and its SQL (pure)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sync_service.clerk.masking import HIDDEN
from sync_service.postgres.sql import quote_literal

# Most events are of these types. A list of them reads the index of all events, newest first.
USUAL_TYPES = ("user.created", "user.updated", "session.created")

STATUSES = ("applied", "stale", "ignored", "failed", "dead")


@dataclass(frozen=True, slots=True)
class FailurePlace:
    """The objects that the last failure of an event names; None stands for no name."""

    table: str | None = None
    column: str | None = None
    constraint: str | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """A selection of events; None selects all. `since` is inclusive, `until` exclusive."""

    status: str | None = None
    type: str | None = None
    clerk_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    reason: str | None = None
    place: FailurePlace | None = None

    def describe(self, *, is_stored: bool) -> str:
        """Return the filter for the audit, such as `status=dead type=user.updated`.

        A text that no stored event has (`is_stored` is false) may be an email or a name, so it is hidden.
        """
        texts = {name: getattr(self, name) for name in ("type", "reason", "clerk_id")}
        texts |= {name: getattr(self.place, name, None) for name in ("table", "column", "constraint")}
        shown = {"status": self.status} | {name: text if is_stored else HIDDEN for name, text in texts.items() if text}
        times = {"since": self.since, "until": self.until}
        shown |= {name: time.isoformat() for name, time in times.items() if time}
        return " ".join(f"{name}={text}" for name, text in shown.items() if text)


def render_filter(selection: Filter, first: int) -> tuple[str, list[object]]:
    """Return a condition, and its parameters, which are numbered from `first`.

    Only given properties are in the condition: `$1 is null or …` would keep PostgreSQL from its indexes.
    """
    conditions: list[str] = []
    parameters: list[object] = []
    for condition, value in _iter_conditions(selection):
        conditions.append(condition.format(n=first + len(parameters)))
        parameters.append(value)
    # The indexes of the other statuses and types are partial, and a parameter does not prove their conditions.
    if selection.status not in {None, "applied"}:
        conditions.append("status <> 'applied'")
    if selection.type not in {None, *USUAL_TYPES}:
        conditions.append(f"type not in ({', '.join(map(quote_literal, USUAL_TYPES))})")
    return " and ".join(conditions) or "true", parameters


def _iter_conditions(selection: Filter) -> Iterator[tuple[str, object]]:
    for name, condition in _CONDITIONS.items():
        value = getattr(selection, name)
        if value is not None:
            yield condition, value
    if selection.place:
        for name in ("table", "column", "constraint"):
            yield f"failures -> -1 ->> '{name}' is not distinct from ${{n}}::text", getattr(selection.place, name)


_CONDITIONS = {
    "status": "status = ${n}",
    "type": "type = ${n}",
    "clerk_id": "(clerk_id = ${n} or user_id = ${n})",
    "reason": "reason = ${n}",
    "since": "received_at >= ${n}",
    "until": "received_at < ${n}",
}
