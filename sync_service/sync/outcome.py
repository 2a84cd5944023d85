"""The result of one event."""

from msgspec import Struct


class Outcome(Struct, frozen=True):
    """The result of one event.

    Committed: applied, stale, duplicate, ignored, or parked with its reason. Not committed: `unavailable`, the sender
    must retry; `refused`, the table refuses the row of a login, which has no event to park.
    """

    outcome: str
    reason: str | None = None


class Waiting(Outcome, frozen=True):
    """Not filed yet: the parent's row does not exist."""

    parent_id: str = ""
