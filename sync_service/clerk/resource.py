"""The fields that all objects of Clerk have, and those of a session.

Names are Clerk's own. Decoding is lenient: a missing field and null are both None, and unknown fields are ignored.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

# Milliseconds since 1970, up to the year 9999. JSON has one kind of number, so 1716883200000.0 must be accepted like
# 1716883200000. `float` accepts both, and represents these numbers exactly.
Milliseconds: TypeAlias = Annotated[float, Meta(ge=0, le=253_402_300_799_999)]
ClerkId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[!-~]+$")]

# The errors that msgspec raises for JSON that cannot be read: wrong syntax or type, not UTF-8, nested too deeply.
UNREADABLE_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# The states of a session that has not ended. Clerk adds states, so all others count as its end.
OPEN_STATES = frozenset({"active", "pending"})


class Resource(Struct, frozen=True, kw_only=True):
    """An object of Clerk as of `updated_at`."""

    id: ClerkId
    updated_at: Milliseconds
    created_at: Milliseconds | None = None


class Session(Resource, frozen=True, kw_only=True):
    """A session. Its times are in order: Clerk's differ by milliseconds, which a CHECK of the app may refuse."""

    status: str | None = None
    last_active_at: Milliseconds | None = None
    expire_at: Milliseconds | None = None
    abandon_at: Milliseconds | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the session has left the states in which it can be used."""
        return self.status is not None and self.status not in OPEN_STATES

    def not_before_creation(self, time: float | None) -> float | None:
        """Return the time, or the creation of the session if that is later."""
        return None if time is None else max(time, self.created_at or 0)

    @property
    def ended_at(self) -> float | None:
        """The time of the change that ended the session."""
        return max(self.updated_at, self.last_active_at or 0, self.created_at or 0) if self.has_ended else None
