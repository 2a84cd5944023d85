"""The handling of a failed batch, as one table (pure). sync/isolation.py executes the result.

A batch is split until only the failing event is parked, and a batch behind a lock continues without the locked event.
The code of an error does not decide whether the database is unavailable, because a trigger of the app may raise any
code. A probe decides it: if another statement can write, the event causes the error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from sync_service.errors import ChangeRejected, DatabaseError, DoubtfulError
from sync_service.postgres.pool import CONNECTION_SILENT

# The same batch is tried this often when the failure is transient.
MAX_TRIES = 3

# Deadlocks and serialization failures, dead connections, servers that are read-only, prepared statements that a pooler
# lost or duplicated.
TRANSIENT_SQLSTATES = ("40", "08", "57P", "25006", "26000", "42P05")
TRANSIENT_REASONS = frozenset({"interface", CONNECTION_SILENT})
# A column, an index, a type, a rule or a privilege changed after the table was read, or the table itself was replaced.
TABLE_CHANGED_SQLSTATES = frozenset(
    {"0A000", "42703", "42704", "42P10", "428C9", "42804", "42501", "22001", "23502", "3F000", "42P01"}
)
# The column's type rejects the value: too long, no label of the enum, against the CHECK of a domain. Or its default
# reads a setting that the session does not have.
INVALID_VALUE_SQLSTATES = ("22", "23514", "42704")
# A unique index or an exclusion constraint.
UNIQUE_SQLSTATES = frozenset({"23505", "23P01"})
LOCK_NOT_AVAILABLE = "55P03"
TIMEOUT = "timeout"
# A timeout that is set on the role or the database: of the statement, the idle session, the transaction.
TIMEOUT_SQLSTATES = frozenset({"57014", "25P03", "25P04"})


class Work(Enum):
    """The statement that failed."""

    SAVE = "applies and files snapshots"
    FILING = "the first step of deletions: commits the tombstones and the events"
    CASCADE = "the second step of deletions: deletes the rows; the events are stored already"
    BACKGROUND_CASCADE = "the same in the background, with all the time that it needs"


class Failure(Enum):
    """The classes of errors that are handled differently."""

    TRANSIENT = "transient"
    TABLE_CHANGED = "table changed"
    UNIQUE = "unique violation"
    INVALID_VALUE = "invalid value"
    REJECTED = "rejected"
    LOCKED = "locked"
    TIMEOUT = "timeout"
    DOUBTFUL = "rejected or unavailable"
    UNAVAILABLE = "unavailable"


class Recovery(Enum):
    """The next step after a failure."""

    RETRY = "apply the same batch again"
    REBIND = "read the table again, then apply the same batch again"
    PROBE = "find out whether the database accepts a write, then decide again"
    SPLIT = "apply smaller parts, all at the same time"
    ISOLATE = "apply each user's events alone, all at the same time"
    WAIT = "leave each event to a caller that applies it alone and waits for the lock"
    RESOLVE_EMAIL = "settle the claims to its unique values, then apply"
    NAME_COLUMN = "find the column that rejects its value, then park"
    PARK = "park the event"
    DEFER = "leave the deletions, which are stored, to the background"
    REFUSE = "report that the database is unavailable"


@dataclass(frozen=True, slots=True)
class Batch:
    """The facts about a failed batch that affect its handling.

    `can_write` is the result of the probe, None before it. `has_claims`: another user may hold a unique value until the
    user's own event arrives. The parts of a batch inherit it and `was_rebound`.
    """

    size: int
    users: int = 1
    work: Work = Work.SAVE
    tries: int = 1
    was_rebound: bool = False
    can_write: bool | None = None
    settles_email: bool = False
    has_claims: bool = True


_SAME_FOR_ALL = {
    Failure.TRANSIENT: (Recovery.RETRY, Recovery.RETRY),
    Failure.TABLE_CHANGED: (Recovery.REBIND, Recovery.REBIND),
    Failure.REJECTED: (Recovery.SPLIT, Recovery.PARK),
    Failure.DOUBTFUL: (Recovery.PROBE, Recovery.PROBE),
}
_DELETION = _SAME_FOR_ALL | {
    Failure.UNIQUE: (Recovery.SPLIT, Recovery.PARK),
    Failure.INVALID_VALUE: (Recovery.SPLIT, Recovery.PARK),
}
_WAITING = {
    Failure.LOCKED: (Recovery.ISOLATE, Recovery.WAIT),
    Failure.TIMEOUT: (Recovery.WAIT, Recovery.PROBE),
    Failure.UNAVAILABLE: (Recovery.REFUSE, Recovery.REFUSE),
}

# By work and failure: a batch of several events, a single event.
RECOVERIES: Mapping[Work, Mapping[Failure, tuple[Recovery, Recovery]]] = MappingProxyType(
    {
        Work.SAVE: _SAME_FOR_ALL
        | _WAITING
        | {
            Failure.UNIQUE: (Recovery.SPLIT, Recovery.RESOLVE_EMAIL),
            Failure.INVALID_VALUE: (Recovery.SPLIT, Recovery.NAME_COLUMN),
        },
        Work.FILING: _DELETION | _WAITING,
        Work.CASCADE: _DELETION
        | {
            Failure.LOCKED: (Recovery.ISOLATE, Recovery.DEFER),
            Failure.TIMEOUT: (Recovery.DEFER, Recovery.DEFER),
            Failure.UNAVAILABLE: (Recovery.DEFER, Recovery.DEFER),
        },
        Work.BACKGROUND_CASCADE: _DELETION
        | {
            Failure.LOCKED: (Recovery.SPLIT, Recovery.PARK),
            Failure.TIMEOUT: (Recovery.SPLIT, Recovery.PARK),
            Failure.UNAVAILABLE: (Recovery.REFUSE, Recovery.REFUSE),
        },
    }
)


def recover(error: DatabaseError, batch: Batch) -> Recovery:
    """Return the next step after `error`."""
    several, single = RECOVERIES[batch.work][classify_failure(error, batch)]
    recovery = several if batch.size > 1 else single
    # Events of one user have the same lock, so isolation is no progress.
    return single if recovery is Recovery.ISOLATE and batch.users == 1 else recovery


def classify_failure(error: DatabaseError, batch: Batch) -> Failure:
    """Return the class of an error. A step that was already taken is not repeated: the error falls to a later class."""
    if error.sqlstate in TABLE_CHANGED_SQLSTATES and not batch.was_rebound:
        return Failure.TABLE_CHANGED
    if not isinstance(error, ChangeRejected):
        return _classify_unavailability(error, batch)
    if error.sqlstate in UNIQUE_SQLSTATES and batch.has_claims and not batch.settles_email:
        return Failure.UNIQUE
    if error.sqlstate.startswith(INVALID_VALUE_SQLSTATES) and error.column is None:
        return Failure.INVALID_VALUE
    return Failure.REJECTED


def _classify_unavailability(error: DatabaseError, batch: Batch) -> Failure:
    if _is_transient(error) and batch.tries < MAX_TRIES:
        return Failure.TRANSIENT
    if error.sqlstate == LOCK_NOT_AVAILABLE:
        return Failure.UNAVAILABLE if batch.settles_email else Failure.LOCKED
    if not _is_timeout(error) and not isinstance(error, DoubtfulError):
        return Failure.UNAVAILABLE
    if batch.can_write is None:
        return Failure.TIMEOUT if _is_timeout(error) else Failure.DOUBTFUL
    return Failure.REJECTED if batch.can_write else Failure.UNAVAILABLE


def _is_transient(error: DatabaseError) -> bool:
    return error.sqlstate.startswith(TRANSIENT_SQLSTATES) or error.reason in TRANSIENT_REASONS


def _is_timeout(error: DatabaseError) -> bool:
    return error.reason == TIMEOUT or error.sqlstate in TIMEOUT_SQLSTATES
