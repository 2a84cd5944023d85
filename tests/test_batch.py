"""Group commit: waiting webhooks share one transaction, and each has its own outcome."""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from sync_service.clerk.change import Deletion
from sync_service.clerk.events import Event
from sync_service.sync.batch import MAX_BATCH_SIZE, SLOW_AFTER, EventBatcher
from sync_service.sync.outcome import Outcome
from tests.world import T1, World, make_event


async def apply_never(_: Event) -> Outcome:
    raise AssertionError


def make_event_number(number: int) -> Event:
    return Event(f"msg_{number}", "foo.bar")


async def test_events_during_a_commit_form_the_next_batch() -> None:
    """With one client a batch is one event; there is no timer."""
    batches: list[int] = []

    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        batches.append(len(events))
        await asyncio.sleep(0.01)
        return [Outcome("applied", each.id) for each in events]

    intake = EventBatcher(apply, apply_never, timeout=5)
    assert await intake.submit(make_event_number(0)) == Outcome("applied", "msg_0")
    assert batches == [1]
    outcomes = await asyncio.gather(*(intake.submit(make_event_number(n)) for n in range(300)))
    assert [outcome.reason for outcome in outcomes] == [f"msg_{n}" for n in range(300)]
    assert sum(batches) == 301
    assert len(batches) < 20
    assert max(batches) <= MAX_BATCH_SIZE


async def test_few_events_wait_for_the_running_batch_and_form_one_batch() -> None:
    """A statement for each event would cost more than the wait."""
    batches: list[int] = []

    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        batches.append(len(events))
        await asyncio.sleep(SLOW_AFTER / 2)
        return [Outcome("applied")] * len(events)

    intake = EventBatcher(apply, apply_never, timeout=5)
    submitted = [asyncio.create_task(intake.submit(make_event_number(0)))]
    for number in range(1, 6):
        await asyncio.sleep(0)
        submitted.append(asyncio.create_task(intake.submit(make_event_number(number))))
    await asyncio.gather(*submitted)
    assert batches == [1, 5]


async def test_a_full_batch_starts_beside_the_running_one() -> None:
    released = asyncio.Event()
    batches: list[int] = []

    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        batches.append(len(events))
        await released.wait()
        return [Outcome("applied")] * len(events)

    intake = EventBatcher(apply, apply_never, timeout=5)
    submitted = [asyncio.create_task(intake.submit(make_event_number(0)))]
    for number in range(1, 3 * MAX_BATCH_SIZE):
        await asyncio.sleep(0)
        submitted.append(asyncio.create_task(intake.submit(make_event_number(number))))
    await asyncio.sleep(0)
    assert batches == [1, MAX_BATCH_SIZE]  # no third batch: there are two lanes
    released.set()
    assert await asyncio.gather(*submitted) == [Outcome("applied")] * 3 * MAX_BATCH_SIZE


async def test_a_late_batch_does_not_block_the_next_one() -> None:
    """The late batch may wait for a lock; later events do not need that lock."""
    released = asyncio.Event()

    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        if events[0].id == "msg_0":
            await released.wait()
        return [Outcome("applied")] * len(events)

    intake = EventBatcher(apply, apply_never, timeout=5)
    blocked = asyncio.create_task(intake.submit(make_event_number(0)))
    await asyncio.sleep(0.01)
    for number in range(1, 4):  # the first one waits until the running batch is late
        assert await asyncio.wait_for(intake.submit(make_event_number(number)), 60) == Outcome("applied")
    assert not blocked.done()
    released.set()
    assert await blocked == Outcome("applied")
    assert await intake.submit(make_event_number(4)) == Outcome("applied")


async def test_an_error_reaches_the_callers_of_its_batch_only() -> None:
    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        await asyncio.sleep(0)
        if any(each.id == "msg_0" for each in events):
            raise RuntimeError
        return [Outcome("applied")] * len(events)

    intake = EventBatcher(apply, apply_never, timeout=5)
    with pytest.raises(RuntimeError):
        await intake.submit(make_event_number(0))
    assert await intake.submit(make_event_number(1)) == Outcome("applied")


async def test_a_batch_that_exceeds_the_timeout_is_cancelled() -> None:
    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        if events[0].id == "msg_0":
            await asyncio.Event().wait()
        return [Outcome("applied")] * len(events)

    intake = EventBatcher(apply, apply_never, timeout=0.5)
    with pytest.raises(TimeoutError):
        await intake.submit(make_event_number(0))
    assert await intake.submit(make_event_number(1)) == Outcome("applied")


async def test_an_event_that_waits_too_long_for_a_batch_times_out() -> None:
    """The timeout includes the wait for earlier batches."""
    batches = 0

    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        nonlocal batches
        batches += 1
        if batches > 2:
            await asyncio.Event().wait()
        return [Outcome("applied")] * len(events)

    intake = EventBatcher(apply, apply_never, timeout=0.5)
    # Two batches are applied, the next two never end, and the fifth waits for them.
    coming = [asyncio.create_task(intake.submit(make_event_number(n))) for n in range(5 * MAX_BATCH_SIZE)]
    results = await asyncio.gather(*coming, return_exceptions=True)
    assert results[: 2 * MAX_BATCH_SIZE] == [Outcome("applied")] * 2 * MAX_BATCH_SIZE
    assert {type(result) for result in results[2 * MAX_BATCH_SIZE :]} == {TimeoutError}


async def test_a_cancelled_caller_does_not_cancel_its_batch() -> None:
    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        await asyncio.sleep(0.02)
        return [Outcome("applied")] * len(events)

    intake = EventBatcher(apply, apply_never, timeout=5)
    leaving = [asyncio.create_task(intake.submit(make_event_number(n))) for n in range(5)]
    staying = [asyncio.create_task(intake.submit(make_event_number(n))) for n in range(5, 10)]
    await asyncio.sleep(0.005)
    for task in leaving:
        task.cancel()
    assert await asyncio.gather(*staying) == [Outcome("applied")] * 5


async def test_an_event_behind_a_lock_waits_alone() -> None:
    """The other events of its batch and later batches are applied meanwhile."""
    lock = asyncio.Event()

    async def apply_batch(events: Sequence[Event]) -> list[Outcome | None]:
        return [None if each.id == "msg_0" else Outcome("applied") for each in events]

    async def apply_waiting(_: Event) -> Outcome:
        await lock.wait()
        return Outcome("applied", "at last")

    intake = EventBatcher(apply_batch, apply_waiting, timeout=5)
    blocked = asyncio.create_task(intake.submit(make_event_number(0)))
    for _ in range(3):
        assert (
            await asyncio.gather(*(intake.submit(make_event_number(n)) for n in range(1, 9)))
            == [Outcome("applied")] * 8
        )
    assert not blocked.done()
    lock.set()
    assert await blocked == Outcome("applied", "at last")


async def test_deletions_and_saves_do_not_wait_for_each_other() -> None:
    released = asyncio.Event()

    async def apply(events: Sequence[Event]) -> list[Outcome | None]:
        if isinstance(events[0].change, Deletion):
            await released.wait()
        return [Outcome("applied")] * len(events)

    intake = EventBatcher(apply, apply_never, timeout=5)
    deletion = asyncio.create_task(intake.submit(Event("msg_d", "user.deleted", change=Deletion("user_1"))))
    await asyncio.sleep(0)
    assert await intake.submit(make_event_number(1)) == Outcome("applied")
    released.set()
    assert await deletion == Outcome("applied")


async def test_concurrent_webhooks_have_outcomes_of_their_own(world: World, db: asyncpg.Connection) -> None:
    """A failed batch is halved until only the events that fail are parked; the others are applied at once."""
    await db.execute("alter table users add constraint no_grace check (first_name <> 'Grace')")
    bodies = [
        make_event("user.created", f"user_{n}", T1, first_name="Grace" if n % 20 == 7 else "Ada") for n in range(100)
    ]
    responses = await asyncio.gather(*(world.deliver(body) for body in bodies))
    for number, response in enumerate(responses):
        assert response.status_code == (202 if number % 20 == 7 else 200), response.text
    assert len(await world.get_users()) == 95
