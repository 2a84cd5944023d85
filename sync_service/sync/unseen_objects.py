"""Deletes objects that Clerk no longer has. The walk only finds candidates; Clerk is asked again about each one."""

from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from sync_service.clerk.events import make_deletion
from sync_service.clerk.user_list import LISTABLE_ID, Listed
from sync_service.store.comparison import count_identities, iter_deletable
from sync_service.sync.commit import DELETE_GRACE
from sync_service.sync.drift_report import is_mass_deletion
from sync_service.sync.row_repair import SOURCE, RowRepair

log = structlog.get_logger()


# The hashes of a walk are sorted in so many parts: sorting a million at once takes 40 MB for a moment.
PARTS = 1024


class SeenObjects:
    """The objects of a walk, in 8 bytes each. Two with one hash hide a deletion; none is deleted because of it.

    `last` is the one that was seen last.
    """

    def __init__(self) -> None:
        self._hashes = [array("q") for _ in range(PARTS)]
        self.last: str | None = None

    def add(self, clerk_ids: Iterable[str]) -> None:
        """Add objects to the set."""
        for clerk_id in clerk_ids:
            value = hash(clerk_id)
            self._hashes[value % PARTS].append(value)
            self.last = clerk_id

    def sort(self) -> None:
        """Sort the set. `is_seen` needs that."""
        for n, hashes in enumerate(self._hashes):
            self._hashes[n] = array("q", sorted(hashes))

    def is_seen(self, clerk_id: str) -> bool:
        """Return whether the walk has seen the object."""
        value = hash(clerk_id)
        hashes = self._hashes[value % PARTS]
        place = bisect_left(hashes, value)
        return place < len(hashes) and hashes[place] == value


@dataclass(frozen=True, slots=True)
class UnseenObjects:
    """The objects that a complete walk has not seen.

    `find` returns those of at most `max_ids` objects that Clerk has, without the control that it must have.
    """

    find: Callable[[Sequence[str], str | None], Awaitable[list[Listed]]]
    max_ids: int
    repair: RowRepair
    seen: SeenObjects
    allow_mass_delete: bool

    async def delete(self, before: datetime) -> None:
        """Delete those known before this time that Clerk no longer has.

        Raises `ClerkUnavailable` or `DatabaseError`.
        """
        report, section = self.repair.report, self.repair.entity.section
        gone = await self._find_gone(before)
        report.count_deleted(gone)
        is_refused = is_mass_deletion(len(gone), await count_identities(self.repair.store))
        if is_refused and not self.allow_mass_delete:
            report.refuse_deletions(section, len(gone))
            log.error("mass_deletion_refused", **{section: len(gone)})
            return
        await delete_objects(self.repair, gone)

    async def _find_gone(self, before: datetime) -> list[str]:
        """Return the objects that Clerk does not have. One that it has was missing in its list: it is repaired."""
        gone = []
        async for candidates in self._iter_candidates(before):
            known = await self.find(candidates, self.seen.last)
            await self.repair.repair(known)
            known_ids = {one.clerk_id for one in known}
            gone += [clerk_id for clerk_id in candidates if clerk_id not in known_ids]
        return gone

    async def _iter_candidates(self, before: datetime) -> AsyncIterator[list[str]]:
        """Yield the objects of one request each."""
        self.seen.sort()
        candidates: list[str] = []
        async for page in iter_deletable(self.repair.store, before):
            candidates += [i for i in page if LISTABLE_ID.fullmatch(i) and not self.seen.is_seen(i)]
            while len(candidates) >= self.max_ids:
                yield candidates[: self.max_ids]
                del candidates[: self.max_ids]
        if candidates:
            yield candidates


async def delete_objects(repair: RowRepair, clerk_ids: Sequence[str]) -> None:
    """Delete objects as Clerk's events do, unless it is a dry run. Raises `DatabaseError`."""
    if repair.report.dry_run:
        return
    # The events have IDs, so that an obstacle is filed and the retries finish the deletion.
    events = [make_deletion(repair.entity.name, i, f"{SOURCE}_{i}") for i in clerk_ids]
    for outcome in await repair.applier.apply_again(events):
        is_deferred = outcome.reason == DELETE_GRACE
        repair.report.count_outcome("applied" if is_deferred else outcome.outcome)
