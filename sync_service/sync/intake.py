"""Waiting webhooks share one transaction, without a timer: each batch is what came during the commit before it.

At one client a batch is one event and costs no waiting; under load batches grow by themselves. PostgreSQL's own log
works the same way (group commit).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence

from sync_service.clerk.events import Event
from sync_service.clerk.values import Deletion
from sync_service.sync.parking import Outcome

# Twice this many share the two lanes: with one batch for all who wait, PostgreSQL would rest while their answers are
# written, and the service while PostgreSQL works. Far fewer would cost more, for a statement has a price of its own.
MOST = 32

# One batch is on its way to the disk while the next is made.
LANES = 2

# How many events may wait for somebody's lock at a time: each holds a connection meanwhile.
MOST_LOCKED = 3

Quickly = Callable[[Sequence[Event]], Awaitable[Sequence[Outcome | None]]]
Patiently = Callable[[Event], Awaitable[Outcome]]


class Intake:
    """Takes events one by one and applies them together. Deletions have a lane of their own, for they may cascade."""

    def __init__(self, quickly: Quickly, patiently: Patiently, *, seconds: float) -> None:
        """Apply batches `quickly`, what is left of them `patiently`; give either up after so many `seconds`."""
        self._saves = _Lane(quickly, patiently, seconds)
        self._deletions = _Lane(quickly, patiently, seconds)

    async def submit(self, event: Event) -> Outcome:
        """Return what became of the event, once that is committed.

        Raises `TimeoutError` if that took too long; the event may be committed all the same.
        """
        lane = self._deletions if isinstance(event.change, Deletion) else self._saves
        return await lane.submit(event)


class _Lane:
    def __init__(self, quickly: Quickly, patiently: Patiently, seconds: float) -> None:
        self._quickly = quickly
        self._patiently = patiently
        self._seconds = seconds
        self._free = LANES
        self._locked = asyncio.Semaphore(MOST_LOCKED)
        self._waiting: deque[tuple[Event, asyncio.Future[Outcome]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, event: Event) -> Outcome:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        # By hand: `asyncio.timeout` costs four times as much, and this is for every webhook.
        timer = loop.call_later(self._seconds, _too_late, future)
        self._waiting.append((event, future))
        if self._free:
            self._free -= 1
            self._start(self._work())
        try:
            return await future
        finally:
            timer.cancel()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        """Apply batches until nobody waits. A caller who has gone is not told, but what he brought is applied."""
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
                with _telling([future for _, future in batch]):
                    async with asyncio.timeout(self._seconds):
                        outcomes = await self._quickly([event for event, _ in batch])
                    for (event, future), outcome in zip(batch, outcomes, strict=True):
                        if outcome is None:
                            self._start(self._wait(event, future))
                        elif not future.done():
                            future.set_result(outcome)
        finally:
            self._free += 1

    async def _wait(self, event: Event, future: asyncio.Future[Outcome]) -> None:
        with _telling([future]):
            async with asyncio.timeout(self._seconds), self._locked:
                outcome = await self._patiently(event)
            if not future.done():
                future.set_result(outcome)


def _too_late(future: asyncio.Future[Outcome]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


@contextlib.contextmanager
def _telling(futures: Sequence[asyncio.Future[Outcome]]) -> Iterator[None]:
    """Tell those who wait what went wrong, and go on."""
    try:
        yield
    except BaseException as error:  # a cancellation too: nobody may be left waiting
        for future in futures:
            if not future.done():
                future.set_exception(error if isinstance(error, Exception) else TimeoutError())
                future.exception()  # looked at: a caller who has gone is no fault
        if not isinstance(error, Exception):
            raise
