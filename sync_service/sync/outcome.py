"""The result of one event."""

from msgspec import Struct


class Outcome(Struct, frozen=True):
    """The result of one event.

    Committed: applied, stale, duplicate, ignored, or parked with its reason. Not committed: `unavailable`, the sender
    must retry.
    """

    outcome: str
    reason: str | None = None
