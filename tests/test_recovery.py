"""The table of recoveries: the next step after each failure of a batch."""

import pytest

from sync_service.errors import ChangeRejected, DatabaseError, DatabaseUnavailable, DoubtfulError, MappingMismatch
from sync_service.postgres.pool import CONNECTION_SILENT, READ_ONLY
from sync_service.sync.recovery import MAX_TRIES, RECOVERIES, Batch, Failure, Recovery, Work, recover

SEVERAL, ONE = Batch(32, users=32), Batch(1)
CASCADES, CASCADE = Batch(32, users=32, work=Work.CASCADE), Batch(1, work=Work.CASCADE)

UNIQUE = ChangeRejected("unique_violation", sqlstate="23505", constraint="users_email_key")
INVALID = ChangeRejected("invalid_text_representation", sqlstate="22P02")
CHECK = ChangeRejected("check_violation", sqlstate="23514", column="age")
FOREIGN_KEY = ChangeRejected("foreign_key_violation", sqlstate="23503")
CHANGED = ChangeRejected("undefined_column", sqlstate="42703")
NO_TABLE = DoubtfulError("undefined_table", sqlstate="42P01")
DEADLOCK = DoubtfulError("deadlock_detected", sqlstate="40P01")
INTERFACE = DatabaseUnavailable("interface")
SILENT = DatabaseUnavailable(CONNECTION_SILENT)
DEMOTED = DatabaseUnavailable(READ_ONLY, sqlstate="25006")
LOCKED = DoubtfulError("lock_not_available", sqlstate="55P03")
SLOW = DatabaseUnavailable("timeout")
CANCELLED = DoubtfulError("query_canceled", sqlstate="57014")
FULL = DoubtfulError("disk_full", sqlstate="53100")
DOWN = DatabaseUnavailable("connection_refused")


@pytest.mark.parametrize(
    ("error", "several", "one", "cascades", "cascade"),
    [
        (UNIQUE, Recovery.SPLIT, Recovery.RESOLVE_EMAIL, Recovery.SPLIT, Recovery.PARK),
        (INVALID, Recovery.SPLIT, Recovery.NAME_COLUMN, Recovery.SPLIT, Recovery.PARK),
        (CHECK, Recovery.SPLIT, Recovery.PARK, Recovery.SPLIT, Recovery.PARK),
        (FOREIGN_KEY, Recovery.SPLIT, Recovery.PARK, Recovery.SPLIT, Recovery.PARK),
        (CHANGED, *[Recovery.REBIND] * 4),
        (NO_TABLE, *[Recovery.REBIND] * 4),
        (DEADLOCK, *[Recovery.RETRY] * 4),
        (INTERFACE, *[Recovery.RETRY] * 4),
        (SILENT, *[Recovery.RETRY] * 4),
        (DEMOTED, *[Recovery.RETRY] * 4),
        (LOCKED, Recovery.ISOLATE, Recovery.WAIT, Recovery.ISOLATE, Recovery.DEFER),
        (SLOW, Recovery.WAIT, Recovery.PROBE, Recovery.DEFER, Recovery.DEFER),
        (CANCELLED, Recovery.WAIT, Recovery.PROBE, Recovery.DEFER, Recovery.DEFER),
        (FULL, *[Recovery.PROBE] * 4),
        (DOWN, Recovery.REFUSE, Recovery.REFUSE, Recovery.DEFER, Recovery.DEFER),
        (MappingMismatch(["public.users: there is no such table"]), *[Recovery.REFUSE] * 2, *[Recovery.DEFER] * 2),
    ],
    ids=lambda value: value.reason if isinstance(value, DatabaseError) else value.name,
)
def test_each_failure_has_a_recovery(
    error: DatabaseError, several: Recovery, one: Recovery, cascades: Recovery, cascade: Recovery
) -> None:
    assert [recover(error, batch) for batch in (SEVERAL, ONE, CASCADES, CASCADE)] == [several, one, cascades, cascade]


@pytest.mark.parametrize(
    ("error", "batch", "recovery"),
    [
        (DEADLOCK, Batch(1, tries=MAX_TRIES), Recovery.PROBE),
        (DEADLOCK, Batch(1, tries=MAX_TRIES - 1), Recovery.RETRY),
        (DEMOTED, Batch(1, tries=MAX_TRIES), Recovery.REFUSE),
        (CHANGED, Batch(1, was_rebound=True), Recovery.PARK),
        (CHANGED, Batch(8, was_rebound=True), Recovery.SPLIT),
        (NO_TABLE, Batch(8, was_rebound=True), Recovery.PROBE),
        (UNIQUE, Batch(1, settles_email=True), Recovery.PARK),
        (LOCKED, Batch(1, settles_email=True), Recovery.REFUSE),
        (SLOW, Batch(1, settles_email=True), Recovery.PROBE),
        (DEADLOCK, Batch(1, settles_email=True), Recovery.RETRY),
        (LOCKED, Batch(8, users=1), Recovery.WAIT),
        (LOCKED, Batch(8, users=1, work=Work.CASCADE), Recovery.DEFER),
    ],
)
def test_a_step_that_was_taken_is_not_repeated(error: DatabaseError, batch: Batch, recovery: Recovery) -> None:
    assert recover(error, batch) is recovery


@pytest.mark.parametrize("error", [FULL, CANCELLED, SLOW], ids=lambda error: error.reason)
def test_the_probe_decides_whose_error_it_is(error: DatabaseError) -> None:
    """The app's trigger raised the error if another statement can write."""
    assert recover(error, Batch(8, can_write=True)) in {Recovery.SPLIT, Recovery.WAIT}
    assert recover(error, Batch(1, can_write=True)) is Recovery.PARK
    assert recover(error, Batch(1, can_write=False)) is Recovery.REFUSE


@pytest.mark.parametrize("error", [LOCKED, SLOW, CANCELLED], ids=lambda error: error.reason)
def test_a_deletion_that_fails_in_the_background_is_parked_with_its_reason(error: DatabaseError) -> None:
    assert recover(error, Batch(1, work=Work.BACKGROUND_CASCADE)) is Recovery.PARK


def test_the_table_covers_every_failure_and_uses_every_recovery() -> None:
    assert set(RECOVERIES) == set(Work)
    assert all(set(row) == set(Failure) for row in RECOVERIES.values())
    assert {recovery for row in RECOVERIES.values() for pair in row.values() for recovery in pair} == set(Recovery)


def test_a_rejected_batch_is_always_split() -> None:
    """A rejection concerns one event, so the others must not be refused with it."""
    for row in RECOVERIES.values():
        for failure in (Failure.UNIQUE, Failure.INVALID_VALUE, Failure.REJECTED):
            assert row[failure][0] is Recovery.SPLIT
