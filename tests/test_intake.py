"""Waiting webhooks share one transaction, and each has its own outcome."""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from sync_service.clerk.events import Event
from sync_service.clerk.values import Deletion
from sync_service.sync.intake import LATE_SECONDS, MOST, Intake
from sync_service.sync.parking import Outcome
from tests.world import T1, World, make_event


async def never(_: Event) -> Outcome:
    raise AssertionError


def named(number: int) -> Event:
    return Event(f"msg_{number}", "foo.bar")


async def test_what_comes_during_a_commit_is_the_next_batch() -> None:
    """At one client a batch is one event; nobody waits for a timer."""
    batches: list[int] = []

    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        batches.append(len(events))
        await asyncio.sleep(0.01)
        return [Outcome("applied", each.id) for each in events]

    intake = Intake(apply, never, seconds=5)
    assert await intake.submit(named(0)) == Outcome("applied", "msg_0")
    assert batches == [1]
    outcomes = await asyncio.gather(*(intake.submit(named(n)) for n in range(300)))
    assert [outcome.reason for outcome in outcomes] == [f"msg_{n}" for n in range(300)]
    assert sum(batches) == 301
    assert len(batches) < 20
    assert max(batches) <= MOST


async def test_a_few_wait_for_the_batch_that_is_under_way_and_leave_together() -> None:
    """Each of them in a statement of its own would cost more than it gains."""
    batches: list[int] = []

    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        batches.append(len(events))
        await asyncio.sleep(LATE_SECONDS / 2)
        return [Outcome("applied")] * len(events)

    intake = Intake(apply, never, seconds=5)
    coming = [asyncio.create_task(intake.submit(named(0)))]
    for number in range(1, 6):
        await asyncio.sleep(0)
        coming.append(asyncio.create_task(intake.submit(named(number))))
    await asyncio.gather(*coming)
    assert batches == [1, 5]


async def test_a_full_batch_does_not_wait_for_the_one_before_it() -> None:
    held = asyncio.Event()
    batches: list[int] = []

    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        batches.append(len(events))
        await held.wait()
        return [Outcome("applied")] * len(events)

    intake = Intake(apply, never, seconds=5)
    coming = [asyncio.create_task(intake.submit(named(0)))]
    for number in range(1, 3 * MOST):
        await asyncio.sleep(0)
        coming.append(asyncio.create_task(intake.submit(named(number))))
    await asyncio.sleep(0)
    assert batches == [1, MOST]  # and no third, whoever waits: there are two lanes
    held.set()
    assert await asyncio.gather(*coming) == [Outcome("applied")] * 3 * MOST


async def test_behind_a_batch_that_is_late_the_next_one_goes_on() -> None:
    """It is behind a lock, perhaps; those who come after it are not."""
    held = asyncio.Event()

    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        if events[0].id == "msg_0":
            await held.wait()
        return [Outcome("applied")] * len(events)

    intake = Intake(apply, never, seconds=5)
    behind = asyncio.create_task(intake.submit(named(0)))
    await asyncio.sleep(0.01)
    for number in range(1, 4):  # the first of them waits until the one before it is late, the others do not
        assert await asyncio.wait_for(intake.submit(named(number)), 20 * LATE_SECONDS) == Outcome("applied")
    assert not behind.done()
    held.set()
    assert await behind == Outcome("applied")
    assert await intake.submit(named(4)) == Outcome("applied")


async def test_a_fault_is_told_to_all_of_its_batch_and_to_no_other() -> None:
    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        await asyncio.sleep(0)
        if any(each.id == "msg_0" for each in events):
            raise RuntimeError
        return [Outcome("applied")] * len(events)

    intake = Intake(apply, never, seconds=5)
    with pytest.raises(RuntimeError):
        await intake.submit(named(0))
    assert await intake.submit(named(1)) == Outcome("applied")


async def test_a_batch_that_takes_too_long_is_given_up() -> None:
    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        await asyncio.sleep(10 if events[0].id == "msg_0" else 0)
        return [Outcome("applied")] * len(events)

    intake = Intake(apply, never, seconds=0.05)
    with pytest.raises(TimeoutError):
        await intake.submit(named(0))
    assert await intake.submit(named(1)) == Outcome("applied")


async def test_who_waits_too_long_for_a_turn_is_told_in_time() -> None:
    """Whatever goes on before it: the answer is due."""

    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        await asyncio.sleep(0.3)
        return [Outcome("applied")] * len(events)

    intake = Intake(apply, never, seconds=0.45)
    first = [asyncio.create_task(intake.submit(named(n))) for n in range(MOST)]
    await asyncio.sleep(0.1)
    began = asyncio.get_running_loop().time()
    late = [asyncio.create_task(intake.submit(named(n))) for n in range(3 * MOST)]
    told = await asyncio.gather(*late, return_exceptions=True)
    assert asyncio.get_running_loop().time() - began < 1
    assert {type(one) for one in told} == {Outcome, TimeoutError}
    assert await asyncio.gather(*first) == [Outcome("applied")] * MOST


async def test_a_caller_who_leaves_takes_nobody_with_him() -> None:
    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        await asyncio.sleep(0.02)
        return [Outcome("applied")] * len(events)

    intake = Intake(apply, never, seconds=5)
    leaving = [asyncio.create_task(intake.submit(named(n))) for n in range(5)]
    staying = [asyncio.create_task(intake.submit(named(n))) for n in range(5, 10)]
    await asyncio.sleep(0.005)
    for task in leaving:
        task.cancel()
    assert await asyncio.gather(*staying) == [Outcome("applied")] * 5


async def test_what_is_behind_a_lock_waits_alone() -> None:
    """The others of its batch are answered meanwhile, and so are the batches after it."""
    lock = asyncio.Event()

    async def quickly(events: Sequence[Event]) -> list[Outcome | None]:
        return [None if each.id == "msg_0" else Outcome("applied") for each in events]

    async def patiently(_: Event) -> Outcome:
        await lock.wait()
        return Outcome("applied", "at last")

    intake = Intake(quickly, patiently, seconds=5)
    behind = asyncio.create_task(intake.submit(named(0)))
    for _ in range(3):
        assert await asyncio.gather(*(intake.submit(named(n)) for n in range(1, 9))) == [Outcome("applied")] * 8
    assert not behind.done()
    lock.set()
    assert await behind == Outcome("applied", "at last")


async def test_a_deletion_does_not_wait_behind_saves_nor_they_behind_it() -> None:
    held = asyncio.Event()

    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        if isinstance(events[0].change, Deletion):
            await held.wait()
        return [Outcome("applied")] * len(events)

    intake = Intake(apply, never, seconds=5)
    deletion = asyncio.create_task(intake.submit(Event("msg_d", "user.deleted", change=Deletion("user_1"))))
    await asyncio.sleep(0)
    assert await intake.submit(named(1)) == Outcome("applied")
    held.set()
    assert await deletion == Outcome("applied")


async def test_a_crowd_with_a_guilty_one_is_answered_each_for_itself(world: World, db: asyncpg.Connection) -> None:
    """A failing batch is taken apart until only the guilty event is parked; the others are applied at once."""
    await db.execute("alter table users add constraint no_grace check (first_name <> 'Grace')")
    bodies = [
        make_event("user.created", f"user_{n}", T1, first_name="Grace" if n % 20 == 7 else "Ada") for n in range(100)
    ]
    answers = await asyncio.gather(*(world.deliver(body) for body in bodies))
    for number, answer in enumerate(answers):
        assert answer.status_code == (202 if number % 20 == 7 else 200), answer.text
    assert len(await world.get_users()) == 95
