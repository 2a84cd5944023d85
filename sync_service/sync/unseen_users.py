"""Deletes users that Clerk no longer has. The walk only finds candidates; Clerk confirms each one by ID."""

from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from sync_service.clerk.entities import USER
from sync_service.clerk.events import make_deletion
from sync_service.clerk.user_list import LISTABLE_ID, MAX_IDS, UserList
from sync_service.store.comparison import count_identities, iter_deletable
from sync_service.sync.commit import DELETE_GRACE
from sync_service.sync.drift_report import is_mass_deletion
from sync_service.sync.row_repair import SOURCE, RowRepair

log = structlog.get_logger()


# The hashes of a walk are sorted in so many parts: sorting a million at once takes 40 MB for a moment.
PARTS = 1024


class SeenUsers:
    """The users of a walk, in 8 bytes each. Two users with one hash hide a deletion; no user is deleted because of it.

    `last` is the user that was seen last.
    """

    def __init__(self) -> None:
        self._hashes = [array("q") for _ in range(PARTS)]
        self.last: str | None = None

    def add(self, clerk_ids: Iterable[str]) -> None:
        """Add users to the set."""
        for clerk_id in clerk_ids:
            value = hash(clerk_id)
            self._hashes[value % PARTS].append(value)
            self.last = clerk_id

    def sort(self) -> None:
        """Sort the set. `is_seen` needs that."""
        for n, hashes in enumerate(self._hashes):
            self._hashes[n] = array("q", sorted(hashes))

    def is_seen(self, clerk_id: str) -> bool:
        """Return whether the walk has seen the user."""
        value = hash(clerk_id)
        hashes = self._hashes[value % PARTS]
        place = bisect_left(hashes, value)
        return place < len(hashes) and hashes[place] == value


@dataclass(frozen=True, slots=True)
class UnseenUsers:
    """The users that a complete walk has not seen."""

    users: UserList
    repair: RowRepair
    seen: SeenUsers
    allow_mass_delete: bool

    async def delete(self, before: datetime) -> None:
        """Delete those known before this time that Clerk no longer has.

        Raises `ClerkUnavailable` or `DatabaseError`.
        """
        report = self.repair.report
        gone = await self._find_gone(before)
        report.count_deleted(gone)
        is_refused = is_mass_deletion(len(gone), await count_identities(self.repair.applier.store))
        if is_refused and not self.allow_mass_delete:
            report.is_mass_deletion_refused = True
            report.refused += len(gone)
            log.error("mass_deletion_refused", users=len(gone))
            return
        await delete_users(self.repair, gone)

    async def _find_gone(self, before: datetime) -> list[str]:
        """Return the users that Clerk does not know. A user that it knows was missing in its list: it is repaired."""
        gone = []
        async for candidates in self._iter_candidates(before):
            known = await self.users.find_users(candidates, self.seen.last)
            await self.repair.repair(known)
            known_ids = {user.clerk_id for user in known}
            gone += [clerk_id for clerk_id in candidates if clerk_id not in known_ids]
        return gone

    async def _iter_candidates(self, before: datetime) -> AsyncIterator[list[str]]:
        """Yield the users of one request each. One more user of it is the control."""
        self.seen.sort()
        candidates: list[str] = []
        async for page in iter_deletable(self.repair.applier.store, before):
            candidates += [i for i in page if LISTABLE_ID.fullmatch(i) and not self.seen.is_seen(i)]
            while len(candidates) >= MAX_IDS - 1:
                yield candidates[: MAX_IDS - 1]
                del candidates[: MAX_IDS - 1]
        if candidates:
            yield candidates


async def delete_users(repair: RowRepair, clerk_ids: Sequence[str]) -> None:
    """Delete users as `user.deleted` does, unless it is a dry run. Raises `DatabaseError`."""
    if repair.report.dry_run:
        return
    # The events have IDs, so that an obstacle is filed and the retries finish the deletion.
    events = [make_deletion(USER.name, i, f"{SOURCE}_{i}") for i in clerk_ids]
    for outcome in await repair.applier.apply_again(events):
        is_deferred = outcome.reason == DELETE_GRACE
        repair.report.count_outcome("applied" if is_deferred else outcome.outcome)
