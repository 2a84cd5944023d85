"""The handling of a failed batch, as one table (pure). sync/apply.py executes the result.

A batch is split until only the failing event is parked, and a batch behind a lock continues without the locked event.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from sync_service.errors import ChangeRejected, DatabaseError

# The same batch is tried this often when the failure is transient.
MAX_TRIES = 3

# Deadlocks and serialization failures, dead connections, prepared statements that a pooler lost or duplicated.
TRANSIENT_SQLSTATES = ("40", "08", "57P", "26000", "42P05")
# A column, an index, a type, a rule or a privilege changed after the table was read.
TABLE_CHANGED_SQLSTATES = frozenset({"0A000", "42703", "42704", "42P10", "428C9", "42804", "42501", "22001", "23502"})
# The column's type rejects the value: too long, no label of the enum, against the CHECK of a domain. Or its default
# reads a setting that the session does not have.
INVALID_VALUE_SQLSTATES = ("22", "23514", "42704")
# A unique index or an exclusion constraint.
UNIQUE_SQLSTATES = frozenset({"23505", "23P01"})
LOCK_NOT_AVAILABLE = "55P03"
TIMEOUT = "timeout"


class Failure(Enum):
    """The classes of errors that are handled differently."""

    TRANSIENT = "transient"
    TABLE_CHANGED = "table changed"
    UNIQUE = "unique violation"
    INVALID_VALUE = "invalid value"
    REJECTED = "rejected"
    LOCKED = "locked"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"


class Recovery(Enum):
    """The next step after a failure."""

    RETRY = "apply the same batch again"
    REBIND = "read the table again, then apply the same batch again"
    SPLIT = "apply both halves, one after the other"
    ISOLATE = "apply each event alone, all at the same time"
    WAIT = "leave the event to a caller that waits for the lock"
    RESOLVE_EMAIL = "settle the claims to its unique values, then apply"
    NAME_COLUMN = "find the column that rejects its value, then park"
    PARK = "park the event"
    DEFER = "park the deletion and continue it in the background at once"
    REFUSE = "report that the database is unavailable"


@dataclass(frozen=True, slots=True)
class Batch:
    """The facts about a failed batch that affect its handling."""

    size: int
    is_deletion: bool = False
    tries: int = 1
    was_rebound: bool = False
    settles_email: bool = False


# By failure: a batch of several events, a single snapshot (or an event without effect), a single deletion.
RECOVERIES: Mapping[Failure, tuple[Recovery, Recovery, Recovery]] = MappingProxyType(
    {
        Failure.TRANSIENT: (Recovery.RETRY, Recovery.RETRY, Recovery.RETRY),
        Failure.TABLE_CHANGED: (Recovery.REBIND, Recovery.REBIND, Recovery.REBIND),
        Failure.UNIQUE: (Recovery.SPLIT, Recovery.RESOLVE_EMAIL, Recovery.PARK),
        Failure.INVALID_VALUE: (Recovery.SPLIT, Recovery.NAME_COLUMN, Recovery.PARK),
        Failure.REJECTED: (Recovery.SPLIT, Recovery.PARK, Recovery.PARK),
        Failure.LOCKED: (Recovery.ISOLATE, Recovery.WAIT, Recovery.WAIT),
        Failure.TIMEOUT: (Recovery.ISOLATE, Recovery.REFUSE, Recovery.DEFER),
        Failure.UNAVAILABLE: (Recovery.REFUSE, Recovery.REFUSE, Recovery.REFUSE),
    }
)


def recover(error: DatabaseError, batch: Batch) -> Recovery:
    """Return the next step after `error`."""
    several, snapshot, deletion = RECOVERIES[classify_failure(error, batch)]
    if batch.size > 1:
        return several
    return deletion if batch.is_deletion else snapshot


def classify_failure(error: DatabaseError, batch: Batch) -> Failure:
    """Return the class of an error. A step that was already taken is not repeated: the error falls to a later class."""
    if not isinstance(error, ChangeRejected):
        return _classify_unavailability(error, batch)
    if error.sqlstate in TABLE_CHANGED_SQLSTATES and not batch.was_rebound:
        return Failure.TABLE_CHANGED
    if error.sqlstate in UNIQUE_SQLSTATES and not batch.settles_email:
        return Failure.UNIQUE
    if error.sqlstate.startswith(INVALID_VALUE_SQLSTATES) and error.column is None:
        return Failure.INVALID_VALUE
    return Failure.REJECTED


def _classify_unavailability(error: DatabaseError, batch: Batch) -> Failure:
    is_transient = error.sqlstate.startswith(TRANSIENT_SQLSTATES) or error.reason == "interface"
    if is_transient and batch.tries < MAX_TRIES:
        return Failure.TRANSIENT
    if batch.settles_email:
        return Failure.UNAVAILABLE
    if error.sqlstate == LOCK_NOT_AVAILABLE:
        return Failure.LOCKED
    return Failure.TIMEOUT if error.reason == TIMEOUT else Failure.UNAVAILABLE
