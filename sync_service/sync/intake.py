"""Waiting webhooks share one transaction, and no timer holds one back: a batch is what came while one was under way.

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

# A statement has a price of its own, so few large batches are cheaper than many small ones; but with one batch for all
# who wait, PostgreSQL would rest while their answers are written, and the service while PostgreSQL works.
MOST = 32

# A second batch leaves before the first is back, if it is full, or if the first is late: behind a lock, on a slow disk.
LANES = 2
LATE_SECONDS = 0.05

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
        self._under_way = 0
        self._late = 0
        self._locked = asyncio.Semaphore(MOST_LOCKED)
        self._waiting: deque[tuple[Event, asyncio.Future[Outcome]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, event: Event) -> Outcome:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        # By hand: `asyncio.timeout` costs four times as much, and this is for every webhook.
        timer = loop.call_later(self._seconds, _too_late, future)
        self._waiting.append((event, future))
        self._go_on()
        try:
            return await future
        finally:
            timer.cancel()

    def _go_on(self) -> None:
        if self._waiting and self._under_way < LANES and self._is_time(self._under_way):
            self._under_way += 1
            self._start(self._work())

    def _is_time(self, others: int) -> bool:
        """Return whether another batch is to leave beside `others`."""
        return others == self._late or len(self._waiting) >= MOST

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        """Apply batches until nobody waits. A caller who has gone is not told, but what he brought is applied."""
        try:
            while self._waiting and self._is_time(self._under_way - 1):
                batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
                with _telling([future for _, future in batch]), self._watched():
                    async with asyncio.timeout(self._seconds):
                        outcomes = await self._quickly([event for event, _ in batch])
                    for (event, future), outcome in zip(batch, outcomes, strict=True):
                        if outcome is None:
                            self._start(self._wait(event, future))
                        elif not future.done():
                            future.set_result(outcome)
        finally:
            self._under_way -= 1

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Let another batch leave as soon as this one is late."""
        late = False

        def tell() -> None:
            nonlocal late
            late = True
            self._late += 1
            self._go_on()

        timer = asyncio.get_running_loop().call_later(LATE_SECONDS, tell)
        try:
            yield
        finally:
            timer.cancel()
            self._late -= late

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
