"""Compares all users of Clerk with the table, or those that changed last, and deletes users that Clerk does not have.

No user is deleted because a list lacks it: Clerk is asked about each one by ID, and only after a walk over all users.
"""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import datetime

from sync_service.clerk.entities import USER
from sync_service.clerk.user_list import MAX_IDS, Listed, UserList
from sync_service.clerk.user_walk import START, Position, iter_pages, iter_recent
from sync_service.errors import ClerkUnavailable
from sync_service.sync.ordered_work import map_in_order
from sync_service.sync.row_repair import RowRepair
from sync_service.sync.run_record import RunRecord
from sync_service.sync.unseen_objects import SeenObjects, UnseenObjects

# While PostgreSQL works on one page, this process prepares the next one.
MAX_CONCURRENT_PAGES = 2


@dataclass(slots=True)
class UserReconcile:
    """The part of a run that compares users. `record` has the place to continue from."""

    users: UserList
    repair: RowRepair
    record: RunRecord
    allow_mass_delete: bool
    _seen: SeenObjects = field(default_factory=SeenObjects)
    _end: Position = START

    async def compare_all(self, started_at: datetime) -> None:
        """Compare all users. Raises `ClerkUnavailable` or `DatabaseError`."""
        await self._repair_pages(self._iter_all_pages())
        self.record.checkpoint = None
        total = await self._count()
        if total > self.record.report.users:
            # Some users may have been created after the last page and before the count.
            await self._repair_pages((page, None) async for page, _ in iter_pages(self.users, self._end))
        unseen = UnseenObjects(self.users.find_users, MAX_IDS - 1, self.repair, self._seen, self.allow_mass_delete)
        await unseen.delete(started_at)
        self.record.report.count_unlisted(USER.section, total)

    async def compare_recent(self, watermark: int | None) -> None:
        """Compare the changes after the watermark. Without one, compare all users."""
        seen: set[str] = set()
        async for page in iter_recent(self.users, watermark or 0):
            await self.repair.repair([user for user in page if user.clerk_id not in seen])
            seen.update(user.clerk_id for user in page)
            self.record.on_progress(self.record.report)

    async def _repair_pages(self, pages: AsyncGenerator[tuple[list[Listed], int | None], None]) -> None:
        """Repair pages, some of them at the same time, and record them in their order."""
        async with contextlib.aclosing(pages):
            repairs = map_in_order(pages, lambda page: self.repair.find_and_write(page[0]), limit=MAX_CONCURRENT_PAGES)
            async with contextlib.aclosing(repairs):
                async for (page, checkpoint), findings in repairs:
                    self._seen.add(user.clerk_id for user in page)
                    self.record.report.count_page(findings)
                    self.record.checkpoint = checkpoint
                    await self.record.record_page(has_written=bool(findings.outcomes))

    async def _count(self) -> int:
        """Return the number of users, 0 if Clerk does not tell it."""
        with contextlib.suppress(ClerkUnavailable):
            return await self.users.count() or 0
        return 0

    async def _iter_all_pages(self) -> AsyncGenerator[tuple[list[Listed], int | None], None]:
        """Yield each user once, with the creation time to continue from after the page.

        After an interrupted run, the users behind its checkpoint come first, and those before it follow. So only a run
        that has seen all users itself decides about deletions.
        """
        since = self.record.checkpoint
        first = START if since is None else Position.at(since)
        async with contextlib.aclosing(iter_pages(self.users, first)) as pages:
            async for page, place in pages:
                self._end = place or self._end
                yield page, self._end.created_at
        if since is None:
            return
        async with contextlib.aclosing(iter_pages(self.users, START)) as pages:
            async for page, place in pages:
                earlier = [user for user in page if user.created_at < since]
                yield earlier, place.created_at if place else None
                if len(earlier) < len(page):
                    return
