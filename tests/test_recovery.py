"""The table of recoveries: the next step after each failure of a batch."""

import pytest

from sync_service.errors import ChangeRejected, DatabaseError, DatabaseUnavailable, MappingMismatch
from sync_service.sync.recovery import MAX_TRIES, RECOVERIES, Batch, Failure, Recovery, recover

SEVERAL, ONE, DELETION = Batch(32), Batch(1), Batch(1, is_deletion=True)

UNIQUE = ChangeRejected("unique_violation", sqlstate="23505", constraint="users_email_key")
INVALID = ChangeRejected("invalid_text_representation", sqlstate="22P02")
CHECK = ChangeRejected("check_violation", sqlstate="23514", column="age")
FOREIGN_KEY = ChangeRejected("foreign_key_violation", sqlstate="23503")
CHANGED = ChangeRejected("undefined_column", sqlstate="42703")
DEADLOCK = DatabaseUnavailable("deadlock_detected", sqlstate="40P01")
INTERFACE = DatabaseUnavailable("interface")
LOCKED = DatabaseUnavailable("lock_not_available", sqlstate="55P03")
SLOW = DatabaseUnavailable("timeout")
FULL = DatabaseUnavailable("disk_full", sqlstate="53100")


@pytest.mark.parametrize(
    ("error", "several", "one", "deletion"),
    [
        (UNIQUE, Recovery.SPLIT, Recovery.RESOLVE_EMAIL, Recovery.PARK),
        (INVALID, Recovery.SPLIT, Recovery.NAME_COLUMN, Recovery.PARK),
        (CHECK, Recovery.SPLIT, Recovery.PARK, Recovery.PARK),
        (FOREIGN_KEY, Recovery.SPLIT, Recovery.PARK, Recovery.PARK),
        (CHANGED, Recovery.REBIND, Recovery.REBIND, Recovery.REBIND),
        (DEADLOCK, Recovery.RETRY, Recovery.RETRY, Recovery.RETRY),
        (INTERFACE, Recovery.RETRY, Recovery.RETRY, Recovery.RETRY),
        (LOCKED, Recovery.ISOLATE, Recovery.WAIT, Recovery.WAIT),
        (SLOW, Recovery.ISOLATE, Recovery.REFUSE, Recovery.DEFER),
        (FULL, Recovery.REFUSE, Recovery.REFUSE, Recovery.REFUSE),
        (MappingMismatch(["public.users: there is no such table"]), *[Recovery.REFUSE] * 3),
    ],
    ids=lambda value: value.reason if isinstance(value, DatabaseError) else value.name,
)
def test_each_failure_has_a_recovery(
    error: DatabaseError, several: Recovery, one: Recovery, deletion: Recovery
) -> None:
    assert recover(error, SEVERAL) is several
    assert recover(error, ONE) is one
    assert recover(error, DELETION) is deletion


@pytest.mark.parametrize(
    ("error", "batch", "recovery"),
    [
        (DEADLOCK, Batch(1, tries=MAX_TRIES), Recovery.REFUSE),
        (DEADLOCK, Batch(1, tries=MAX_TRIES - 1), Recovery.RETRY),
        (CHANGED, Batch(1, was_rebound=True), Recovery.PARK),
        (CHANGED, Batch(8, was_rebound=True), Recovery.SPLIT),
        (UNIQUE, Batch(1, settles_email=True), Recovery.PARK),
        (LOCKED, Batch(1, settles_email=True), Recovery.REFUSE),
        (SLOW, Batch(1, settles_email=True), Recovery.REFUSE),
        (DEADLOCK, Batch(1, settles_email=True), Recovery.RETRY),
    ],
)
def test_a_step_that_was_taken_is_not_repeated(error: DatabaseError, batch: Batch, recovery: Recovery) -> None:
    assert recover(error, batch) is recovery


def test_the_table_covers_every_failure_and_uses_every_recovery() -> None:
    assert set(RECOVERIES) == set(Failure)
    assert {recovery for row in RECOVERIES.values() for recovery in row} == set(Recovery)


def test_a_rejected_batch_is_always_split() -> None:
    """A rejection concerns one event, so the others must not be refused with it."""
    for failure in (Failure.UNIQUE, Failure.INVALID_VALUE, Failure.REJECTED):
        assert RECOVERIES[failure][0] is Recovery.SPLIT
