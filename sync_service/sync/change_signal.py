"""Wakes the readers of the change feed in this process after a commit. Other processes are found by a slow poll."""

import asyncio
import contextlib


class ChangeSignal:
    """One event for each commit."""

    def __init__(self) -> None:
        """Begin without listeners: events of other tasks, which clear them."""
        self.listeners: list[asyncio.Event] = []
        self._next = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """The event of the next commit. Take it before the database is read, so that no commit is missed."""
        return self._next

    def announce(self) -> None:
        """Wake all readers that wait."""
        self._next.set()
        self._next = asyncio.Event()
        for listener in self.listeners:
            listener.set()


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
