"""The result of one event."""

from msgspec import Struct


class Outcome(Struct, frozen=True):
    """The result of one event.

    Committed: applied, stale, duplicate, ignored, or parked with its reason. Not committed: `unavailable`, the sender
    must retry; `refused`, the table refuses the row of a login, which has no event to park.
    """

    outcome: str
    reason: str | None = None


# The start of the reasons of an object whose parent has no row.
WAITING_FOR = "waiting_for_"


class Waiting(Outcome, frozen=True):
    """Not filed yet: the row of the parent `parent_id` does not exist. `reason` names the kind of the parent."""

    parent_id: str = ""

    @classmethod
    def for_parent(cls, entity: str, parent_id: str) -> "Waiting":
        """Return the outcome of an event that waits for this parent."""
        return cls("waiting", WAITING_FOR + entity, parent_id)
