"""The ordering rules of the reference model hold for every history of up to four changes."""

from itertools import permutations

import pytest

from sync_service.clerk.change import Change, Deletion, Snapshot, Version
from tests.reference_model import HISTORIES, USER, Decision, Identity, decide, join


def join_all(history: tuple[Change, ...]) -> Identity | None:
    known: Identity | None = None
    for change in history:
        known = join(change, known)
    return known


def test_every_history_ends_with_its_greatest_change() -> None:
    for history in HISTORIES:
        if any(isinstance(change, Deletion) for change in history):
            assert join_all(history) == Identity(None)
        else:
            versions = [change.version for change in history if isinstance(change, Snapshot)]
            assert join_all(history) == Identity(max(versions))


def test_order_does_not_matter() -> None:
    for history in HISTORIES:
        assert len({join_all(order) for order in permutations(history)}) == 1


def test_repetition_does_not_matter() -> None:
    for history in HISTORIES:
        assert join_all(history + history) == join_all(history)
        for change in history:
            assert join_all((*history, change)) == join_all(history)


def test_a_decision_writes_exactly_when_the_state_changes() -> None:
    for history in HISTORIES:
        known = join_all(history[:-1])
        writes = decide(history[-1], known) in {Decision.SAVE, Decision.DELETE}
        assert writes == (join(history[-1], known) != known)


V1, V2 = Version(1, b"a"), Version(2, b"a")
# The version of a user from a webhook, and of the same user from Clerk's API.
FROM_WEBHOOK, FROM_API = Version.from_webhook(USER), Version.from_api(USER)


@pytest.mark.parametrize(
    ("change", "known", "decision"),
    [
        (Snapshot(USER, V1), None, Decision.SAVE),
        (Snapshot(USER, V2), Identity(V1), Decision.SAVE),
        (Snapshot(USER, Version(1, b"b")), Identity(V1), Decision.SAVE),
        (Snapshot(USER, FROM_API), Identity(FROM_WEBHOOK), Decision.SAVE),
        (Snapshot(USER, FROM_WEBHOOK), Identity(FROM_API), Decision.SAME),
        (Snapshot(USER, Version(1, b"\xfe" * 16)), Identity(FROM_API), Decision.STALE),
        (Snapshot(USER, Version(2, b"")), Identity(FROM_API), Decision.SAVE),
        (Snapshot(USER, V1), Identity(V1), Decision.SAME),
        (Snapshot(USER, V1), Identity(Version(1, b"b")), Decision.STALE),
        (Snapshot(USER, V1), Identity(V2), Decision.STALE),
        (Snapshot(USER, V2), Identity(None), Decision.STALE),
        (Deletion("user_1"), None, Decision.DELETE),
        (Deletion("user_1"), Identity(V2), Decision.DELETE),
        (Deletion("user_1"), Identity(None), Decision.SAME),
    ],
)
def test_each_decision_of_the_table(change: Change, known: Identity | None, decision: Decision) -> None:
    assert decide(change, known) is decision


@pytest.mark.parametrize("breakage", ["no tie-break", "no tombstone", "last arrival wins"])
def test_the_histories_detect_a_broken_rule(breakage: str) -> None:
    """Each of three plausible but wrong rules makes the result of some history depend on its order."""

    def join_with_broken_rule(change: Change, known: Identity | None) -> Identity | None:
        if isinstance(change, Deletion):
            return None if breakage == "no tombstone" else Identity(None)
        if known is None or known.version is None:
            return known or Identity(change.version)
        if breakage == "last arrival wins":
            return Identity(change.version)
        newer = (
            change.version.updated_at > known.version.updated_at
            if breakage == "no tie-break"
            else change.version > known.version
        )
        return Identity(change.version) if newer else known

    def join_all_with_broken_rule(history: tuple[Change, ...]) -> Identity | None:
        known: Identity | None = None
        for change in history:
            known = join_with_broken_rule(change, known)
        return known

    assert any(len({join_all_with_broken_rule(order) for order in permutations(history)}) > 1 for history in HISTORIES)
