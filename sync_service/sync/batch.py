"""Group commit: waiting webhooks share one transaction, and no timer delays one.

A batch is the set of events that arrived while the previous batch ran. With one client a batch is one event and adds no
waiting; under load batches grow by themselves. PostgreSQL's write-ahead log works in the same way.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence

from sync_service.clerk.change import Deletion
from sync_service.clerk.events import Event
from sync_service.sync.outcome import Outcome

# Each statement has a fixed cost, so few large batches are cheaper than many small ones. A single batch for all waiting
# events would leave PostgreSQL idle while the responses are written, and this process idle while PostgreSQL works.
# Measured with 64 and 256 clients: 64, 128 and a size that follows the load made no difference beyond the noise of 8 %.
MAX_BATCH_SIZE = 32

# A second batch starts beside the first if it is full, or if the first is slow (a lock, a slow disk). Seconds.
MAX_BATCHES_IN_FLIGHT = 2
SLOW_AFTER = 0.05

# Events that wait for a lock at the same time. Each of them occupies a connection.
MAX_LOCK_WAITERS = 3

ApplyBatch = Callable[[Sequence[Event]], Awaitable[Sequence[Outcome | None]]]
ApplyWaitingForLock = Callable[[Event], Awaitable[Outcome]]


class EventBatcher:
    """Accepts single events and applies them in batches. Deletions have batches of their own, because they cascade."""

    def __init__(
        self,
        apply_batch: ApplyBatch,
        apply_waiting_for_lock: ApplyWaitingForLock,
        *,
        timeout: float,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Abort each of the two functions after `timeout` seconds; pass the size of each batch to `on_batch`."""
        self._saves = _Lane(apply_batch, apply_waiting_for_lock, timeout, on_batch)
        self._deletions = _Lane(apply_batch, apply_waiting_for_lock, timeout, on_batch)

    def submit(self, event: Event) -> Coroutine[None, None, Outcome]:
        """Return the outcome of the event after its commit.

        Raises `TimeoutError` if that takes too long; the event may be committed nevertheless.
        """
        lane = self._deletions if isinstance(event.change, Deletion) else self._saves
        return lane.submit(event)


class _Lane:
    def __init__(
        self,
        apply_batch: ApplyBatch,
        apply_waiting_for_lock: ApplyWaitingForLock,
        timeout: float,
        on_batch: Callable[[int], None],
    ) -> None:
        self._apply_batch = apply_batch
        self._on_batch = on_batch
        self._apply_waiting_for_lock = apply_waiting_for_lock
        self._timeout = timeout
        self._in_flight = 0
        self._slow = 0
        self._lock_waiters = asyncio.Semaphore(MAX_LOCK_WAITERS)
        self._waiting: deque[tuple[Event, asyncio.Future[Outcome]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, event: Event) -> Outcome:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        # `asyncio.timeout` costs four times as much as this timer, and each webhook needs one.
        timer = loop.call_later(self._timeout, _time_out, future)
        self._waiting.append((event, future))
        self._maybe_start()
        try:
            return await future
        finally:
            timer.cancel()

    def _maybe_start(self) -> None:
        can_start = self._waiting and self._in_flight < MAX_BATCHES_IN_FLIGHT
        if can_start and self._should_start(self._in_flight):
            self._in_flight += 1
            self._start_task(self._run())

    def _should_start(self, others: int) -> bool:
        """Return whether a batch starts beside `others`: all of those are slow, or the batch is full."""
        return others == self._slow or len(self._waiting) >= MAX_BATCH_SIZE

    def _start_task(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the event loop holds weak references only
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        """Apply batches until no event waits. The event of a disconnected caller is applied too."""
        try:
            while self._waiting and self._should_start(self._in_flight - 1):
                batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH_SIZE, len(self._waiting)))]
                with _deliver_errors([future for _, future in batch]), self._slow_timer():
                    async with asyncio.timeout(self._timeout):
                        outcomes = await self._apply_batch([event for event, _ in batch])
                    self._on_batch(len(batch))
                    for (event, future), outcome in zip(batch, outcomes, strict=True):
                        if outcome is None:
                            self._start_task(self._wait_for_lock(event, future))
                        elif not future.done():
                            future.set_result(outcome)
        finally:
            self._in_flight -= 1

    @contextlib.contextmanager
    def _slow_timer(self) -> Iterator[None]:
        """Start another batch as soon as this one is slow."""
        is_slow = False

        def mark_slow() -> None:
            nonlocal is_slow
            is_slow = True
            self._slow += 1
            self._maybe_start()

        timer = asyncio.get_running_loop().call_later(SLOW_AFTER, mark_slow)
        try:
            yield
        finally:
            timer.cancel()
            self._slow -= is_slow

    async def _wait_for_lock(self, event: Event, future: asyncio.Future[Outcome]) -> None:
        with _deliver_errors([future]):
            async with asyncio.timeout(self._timeout), self._lock_waiters:
                outcome = await self._apply_waiting_for_lock(event)
            if not future.done():
                future.set_result(outcome)


def _time_out(future: asyncio.Future[Outcome]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


@contextlib.contextmanager
def _deliver_errors(futures: Sequence[asyncio.Future[Outcome]]) -> Iterator[None]:
    """Pass an error to the callers that wait for these futures, and continue."""
    try:
        yield
    except BaseException as error:  # a cancellation too: no caller may wait for ever
        for future in futures:
            if not future.done():
                future.set_exception(error if isinstance(error, Exception) else TimeoutError())
                future.exception()  # retrieved, so that asyncio does not report it for a disconnected caller
        if not isinstance(error, Exception):
            raise
