"""The law, over every history of a small world: two instants, two tie-breaks, saved and deleted."""

from itertools import permutations, product

import pytest

from sync_service.clerk.values import Change, Deletion, Snapshot, User, Version
from sync_service.sync.decide import Decision, Identity, decide, join

USER = User(id="user_1", updated_at=1)
SNAPSHOTS = [Snapshot(USER, Version(instant, tie)) for instant in (1, 2) for tie in (b"a", b"b")]
CHANGES: list[Change] = [*SNAPSHOTS, Deletion("user_1")]
# Every history of up to four changes, with every repetition, in every order: 5 + 25 + 125 + 625.
HISTORIES = [history for length in (1, 2, 3, 4) for history in product(CHANGES, repeat=length)]


def after(history: tuple[Change, ...]) -> Identity | None:
    known: Identity | None = None
    for change in history:
        known = join(change, known)
    return known


def test_every_history_ends_where_the_greatest_of_its_changes_says() -> None:
    for history in HISTORIES:
        if any(isinstance(change, Deletion) for change in history):
            assert after(history) == Identity(None)
        else:
            versions = [change.version for change in history if isinstance(change, Snapshot)]
            assert after(history) == Identity(max(versions))


def test_order_does_not_matter() -> None:
    for history in HISTORIES:
        assert len({after(order) for order in permutations(history)}) == 1


def test_repetition_does_not_matter() -> None:
    for history in HISTORIES:
        assert after(history + history) == after(history)
        for change in history:
            assert after((*history, change)) == after(history)


def test_a_decision_is_to_write_exactly_when_what_is_known_changes() -> None:
    for history in HISTORIES:
        known = after(history[:-1])
        writes = decide(history[-1], known) in {Decision.SAVE, Decision.DELETE}
        assert writes == (join(history[-1], known) != known)


V1, V2 = Version(1, b"a"), Version(2, b"a")
# What a webhook said, and the same when Clerk was asked.
TOLD, FETCHED = Version.of(USER), Version.fetched(USER)


@pytest.mark.parametrize(
    ("change", "known", "decision"),
    [
        (Snapshot(USER, V1), None, Decision.SAVE),
        (Snapshot(USER, V2), Identity(V1), Decision.SAVE),
        (Snapshot(USER, Version(1, b"b")), Identity(V1), Decision.SAVE),
        (Snapshot(USER, FETCHED), Identity(TOLD), Decision.SAVE),
        (Snapshot(USER, TOLD), Identity(FETCHED), Decision.SAME),
        (Snapshot(USER, Version(1, b"\xfe" * 16)), Identity(FETCHED), Decision.STALE),
        (Snapshot(USER, Version(2, b"")), Identity(FETCHED), Decision.SAVE),
        (Snapshot(USER, V1), Identity(V1), Decision.SAME),
        (Snapshot(USER, V1), Identity(Version(1, b"b")), Decision.STALE),
        (Snapshot(USER, V1), Identity(V2), Decision.STALE),
        (Snapshot(USER, V2), Identity(None), Decision.STALE),
        (Deletion("user_1"), None, Decision.DELETE),
        (Deletion("user_1"), Identity(V2), Decision.DELETE),
        (Deletion("user_1"), Identity(None), Decision.SAME),
    ],
)
def test_the_table(change: Change, known: Identity | None, decision: Decision) -> None:
    assert decide(change, known) is decision


@pytest.mark.parametrize("breakage", ["no tie-break", "no tombstone", "last arrival wins"])
def test_the_world_is_large_enough_to_see_a_broken_rule(breakage: str) -> None:
    """Each of the rules that others use is caught by the histories above."""

    def broken(change: Change, known: Identity | None) -> Identity | None:
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

    def end(history: tuple[Change, ...]) -> Identity | None:
        known: Identity | None = None
        for change in history:
            known = broken(change, known)
        return known

    assert any(len({end(order) for order in permutations(history)}) > 1 for history in HISTORIES)
