"""Compares all organizations and memberships of Clerk with their tables, parents first.

Clerk has no list of all sessions, so their rows are not compared.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog

from sync_service.clerk.entities import MEMBERSHIP, ORGANIZATION, Entity
from sync_service.clerk.list_requests import ListRequests
from sync_service.clerk.related_list import RelatedList
from sync_service.clerk.related_walk import find_objects, iter_pages
from sync_service.clerk.user_list import MAX_IDS
from sync_service.errors import ClerkRequestRefused
from sync_service.store.comparison import LIST_SIZE
from sync_service.sync.row_repair import RowRepair
from sync_service.sync.unseen_objects import SeenObjects, UnseenObjects

log = structlog.get_logger()

REFUSED_LIST = (
    "Clerk refuses the list of {section} ({reason})."
    " Enable organizations in Clerk's dashboard, or remove [{section}] from sync.toml."
)


@dataclass(frozen=True, slots=True)
class RelatedReconcile:
    """The part of a run that follows the users. `repair` is that of the users. `record` is called after each page."""

    requests: ListRequests
    repair: RowRepair
    allow_mass_delete: bool
    record: Callable[[], Awaitable[None]]

    async def run(self, started_at: datetime) -> str | None:
        """Return the reason why a list cannot be read, or None. Raises `ClerkUnavailable` or `DatabaseError`."""
        for entity in (ORGANIZATION, MEMBERSHIP):
            if entity.name in self.repair.applier.store.bindings:
                try:
                    await self._walk(entity, started_at)
                except ClerkRequestRefused as error:
                    return REFUSED_LIST.format(section=entity.section, reason=error.reason)
        return None

    async def _walk(self, entity: Entity, started_at: datetime) -> None:
        objects, seen, totals = RelatedList(self.requests, entity), SeenObjects(), list[int]()
        repair = self.repair.for_entity(entity)
        async for page in iter_pages(objects):
            await repair.repair(page.objects)
            seen.add(one.clerk_id for one in page.objects)
            totals.append(page.total)
            await self.record()
        max_ids = MAX_IDS - 1 if objects.finds_by_id else LIST_SIZE
        find = partial(find_objects, objects)
        await UnseenObjects(find, max_ids, repair, seen, self.allow_mass_delete).delete(started_at)
        # Objects that are created or deleted meanwhile change the total.
        self.repair.report.count_unlisted(entity.section, min(totals))
