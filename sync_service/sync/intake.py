"""Waiting webhooks share one transaction, without a timer: each batch is what came during the commit before it.

At one client a batch is one event and costs no waiting; under load batches grow by themselves. PostgreSQL's own log
works the same way (group commit).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from sync_service.clerk.events import Event
from sync_service.clerk.values import Deletion
from sync_service.sync.apply import Outcome

# Statements grow with their batches; beyond this the gain is nothing and the wait is somebody's.
MOST = 64

Apply = Callable[[Sequence[Event]], Awaitable[list[Outcome]]]


class Intake:
    """Takes events one by one and applies them together. Deletions have a lane of their own, for they may cascade."""

    def __init__(self, apply: Apply, *, seconds: float) -> None:
        """Apply by `apply`, and give a batch up after so many `seconds`."""
        self._saves = _Lane(apply, seconds, lanes=2)
        self._deletions = _Lane(apply, seconds, lanes=2)

    async def submit(self, event: Event) -> Outcome:
        """Return what became of the event, once that is committed.

        Raises `TimeoutError` if that took too long; the event may be committed all the same.
        """
        lane = self._deletions if isinstance(event.change, Deletion) else self._saves
        return await lane.submit(event)


class _Lane:
    def __init__(self, apply: Apply, seconds: float, *, lanes: int) -> None:
        self._apply = apply
        self._seconds = seconds
        self._free = lanes
        self._waiting: deque[tuple[Event, asyncio.Future[Outcome]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, event: Event) -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, future))
        if self._free:
            self._free -= 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _work(self) -> None:
        """Apply batches until nobody waits. A caller who has gone is not told, but what he brought is applied."""
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
                try:
                    async with asyncio.timeout(self._seconds):
                        outcomes = await self._apply([event for event, _ in batch])
                except BaseException as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error if isinstance(error, Exception) else TimeoutError())
                            future.exception()  # looked at: a caller who has gone is no fault
                    if not isinstance(error, Exception):
                        raise
                else:
                    for (_, future), outcome in zip(batch, outcomes, strict=True):
                        if not future.done():
                            future.set_result(outcome)
        finally:
            self._free += 1
