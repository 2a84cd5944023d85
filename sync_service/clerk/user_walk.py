"""A walk over all users of Clerk by cursor, oldest first, so that users created meanwhile are at its end.

Clerk does not document its response if the user of the cursor was deleted meanwhile. So a short or empty page, a
refused cursor and a page that repeats known users are no end of the walk: it continues with the users created since the
last one, and ends when there are none.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

from sync_service.clerk.client import QueryParameters
from sync_service.clerk.user_list import PAGE_SIZE, Listed, UserList
from sync_service.errors import ClerkRequestRefused, ClerkUnavailable


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the walk.

    `created_at` is the time of the last known user, and `same_time` are the known users of that millisecond. `cursor`
    is the last known user; without one, the page starts with the users created at or after `since`. `is_check`: the
    cursor has led to the end, and the page only checks that no user follows.
    """

    created_at: int = -1
    same_time: frozenset[str] = frozenset()
    cursor: str | None = None
    since: int | None = None
    is_check: bool = False

    @property
    def parameters(self) -> QueryParameters:
        """The parameters of the request for the page at this place."""
        parameters: dict[str, str | int] = {"order_by": "created_at", "limit": PAGE_SIZE}
        if self.since is not None:
            parameters["created_at_after"] = max(self.since - 1, 0)  # exclusive
        if self.cursor:
            parameters["starting_after"] = self.cursor
        return parameters

    def without_cursor(self, *, is_check: bool = False) -> "Position | None":
        """Return the same place by time, or None if this is such a place, or the start."""
        if self.cursor is None:
            return None
        return Position(self.created_at, self.same_time, None, max(self.created_at, 0), is_check)

    def select_new(self, page: Sequence[Listed]) -> list[Listed]:
        """Return the users of a page that were not on an earlier one."""
        return [
            user
            for user in page
            if user.created_at > self.created_at
            or (user.created_at == self.created_at and user.clerk_id not in self.same_time)
        ]

    def advance(self, page: Sequence[Listed]) -> "Position | None":
        """Return the place after a page, or None at the end. Raises `ClerkUnavailable` without a way on."""
        new = self.select_new(page)
        if not new:
            if self._is_stuck(page):
                raise ClerkUnavailable("more users of one millisecond than a page has, and no cursor")
            return self.without_cursor(is_check=not page)
        last = max(user.created_at for user in new)
        same_time = frozenset(user.clerk_id for user in new if user.created_at == last)
        if last == self.created_at:
            same_time |= self.same_time
        after = Position(last, same_time, page[-1].clerk_id, self.since)
        return after if len(page) >= PAGE_SIZE else after.without_cursor(is_check=True)

    def _is_stuck(self, page: Sequence[Listed]) -> bool:
        """Return whether a page of known users hides later ones of the same millisecond."""
        is_full_of_one_time = len(page) >= PAGE_SIZE and page[0].created_at == self.created_at
        return is_full_of_one_time and self.cursor is None and not self.is_check

    @classmethod
    def at(cls, created_at: int) -> "Position":
        """Return the place before the users created at this time or later."""
        return cls(created_at - 1, frozenset(), None, created_at)


START = Position()

# Users on two pages of the newest changes. A user deleted meanwhile moves the later ones up by one.
PAGE_OVERLAP = 50


async def iter_pages(
    users: UserList, start: Position = START
) -> AsyncGenerator[tuple[list[Listed], Position | None], None]:
    """Yield the new users of each page with the place after it. The next page is requested meanwhile.

    Raises `ClerkUnavailable` or `ClerkAuthError`.
    """
    task = asyncio.create_task(_get_page(users, start))
    try:
        while True:
            new, after = await task
            if after is None:
                yield new, None
                return
            task = asyncio.create_task(_get_page(users, after))
            yield new, after
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ClerkUnavailable):
            await task


async def _get_page(users: UserList, place: Position) -> tuple[list[Listed], Position | None]:
    try:
        page = await users.get_page(place.parameters)
    except ClerkRequestRefused:
        by_time = place.without_cursor()
        if by_time is None:
            raise
        return [], by_time
    return place.select_new(page), place.advance(page)


async def iter_recent(users: UserList, watermark: int) -> AsyncIterator[list[Listed]]:
    """Yield the users changed since `watermark`, newest first. A page may repeat users of the page before.

    Clerk has no cursor for this order. A user changed meanwhile moves to the front, so that no other one is skipped.
    """
    offset = 0
    while True:
        page = await users.get_page({"order_by": "-updated_at", "limit": PAGE_SIZE, "offset": offset})
        yield [user for user in page if user.snapshot is None or user.snapshot.version.updated_at >= watermark]
        oldest = min((user.snapshot.version.updated_at for user in page if user.snapshot), default=watermark)
        if len(page) < PAGE_SIZE or oldest < watermark:
            return
        offset += PAGE_SIZE - PAGE_OVERLAP
