"""Work on several items at the same time ends in the order of the items."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sync_service.errors import ClerkUnavailable
from sync_service.sync.ordered_work import map_in_order


async def count_to(last: int, error: Exception | None = None) -> AsyncIterator[int]:
    for n in range(1, last + 1):
        yield n
    if error:
        raise error


async def test_results_keep_the_order_of_the_items() -> None:
    """The second of two pieces of work ends first; a third one does not begin before one of them has ended."""
    running, most = 0, 0
    second_ended = asyncio.Event()

    async def work(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await (second_ended.wait() if n == 1 else asyncio.sleep(0))
        second_ended.set()
        running -= 1
        return n * n

    found = [result async for result in map_in_order(count_to(5), work, limit=2)]
    assert found == [(1, 1), (2, 4), (3, 9), (4, 16), (5, 25)]
    assert most == 2


async def test_after_an_error_of_the_items_the_begun_work_is_finished() -> None:
    found = map_in_order(count_to(3, ClerkUnavailable("503")), lambda _: asyncio.sleep(0), limit=2)
    assert [(await anext(found))[0] for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ClerkUnavailable):
        await anext(found)


async def test_after_an_error_of_the_work_the_rest_is_cancelled() -> None:
    cancelled = []

    async def work(n: int) -> None:
        if n == 2:
            raise ValueError("two")
        try:
            await asyncio.sleep(0 if n == 1 else 60)
        except asyncio.CancelledError:
            cancelled.append(n)
            raise

    with pytest.raises(ValueError, match="two"):
        async for _ in map_in_order(count_to(9), work, limit=3):
            pass
    assert 3 in cancelled
