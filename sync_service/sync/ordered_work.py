"""Works on several items at the same time, and yields the results in the order of the items."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def map_in_order(
    items: AsyncIterator[T], work: Callable[[T], Coroutine[Any, Any, R]], *, limit: int
) -> AsyncGenerator[tuple[T, R], None]:
    """Yield each item with the result of its work, as soon as it is there. Work on so many items runs at a time.

    After an error of `items`, the work that has begun is finished first. After an error of the work, it is cancelled.
    """
    slots = asyncio.Semaphore(limit)
    started: asyncio.Queue[tuple[T, asyncio.Task[R]] | None] = asyncio.Queue()
    tasks: set[asyncio.Task[Any]] = set()

    async def start_work() -> None:
        try:
            async for item in items:
                await slots.acquire()
                tasks.add(task := asyncio.create_task(work(item)))
                started.put_nowait((item, task))
        finally:
            started.put_nowait(None)

    starter = asyncio.create_task(start_work())
    try:
        while entry := await started.get():
            item, task = entry
            result = await task
            tasks.remove(task)
            slots.release()
            yield item, result
        await starter
    finally:
        for task in (starter, *tasks):
            task.cancel()
        await asyncio.gather(starter, *tasks, return_exceptions=True)
