"""Compares all users of Clerk, or the last states in the inbox, with the table, and repairs the rows that differ.

Organizations and memberships follow the users.

All writes go through sync/apply.py, where a webhook that arrives meanwhile wins if it is newer. No user is deleted
because a list lacks it: Clerk is asked about each one by ID, and only after a walk over all users.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict
from datetime import datetime

import structlog

from sync_service.clerk.entities import USER
from sync_service.clerk.user_list import MAX_IDS, Listed, UserList
from sync_service.clerk.user_walk import START, Position, iter_pages, iter_recent
from sync_service.errors import ClerkAuthError, ClerkUnavailable, DatabaseError, MappingMismatch
from sync_service.store.access import Store
from sync_service.store.audit import AuditEntry
from sync_service.store.identities import get_pinned_instance, pin_instance
from sync_service.store.reconciles import Run, begin_run, find_watermark, finish_run, read_clock, save_run
from sync_service.sync.apply import Applier
from sync_service.sync.drift_report import Report
from sync_service.sync.inbox_restore import restore_from_inbox
from sync_service.sync.ordered_work import map_in_order
from sync_service.sync.related_reconcile import RelatedReconcile
from sync_service.sync.row_repair import SOURCE, RowRepair
from sync_service.sync.unseen_objects import SeenObjects, UnseenObjects

log = structlog.get_logger()

# A page without a write is recorded only now and then, so that a run over unchanged users hardly writes.
PAGES_PER_CHECKPOINT = 20

# While PostgreSQL works on one page, this process prepares the next one.
MAX_CONCURRENT_PAGES = 2

MISMATCH = "The mapping does not fit the table. `sync-service doctor` names the columns."
REJECTED_KEY = "Clerk rejects the key ({reason}): correct CLERK_SECRET_KEY."
UNCONFIRMED_KEY = (
    "The instance of CLERK_SECRET_KEY cannot be confirmed, because its key set names none. Check CLERK_API_URL."
)
FOREIGN_KEY = (
    "CLERK_SECRET_KEY belongs to another Clerk instance than the users in this database."
    " Correct CLERK_SECRET_KEY or CLERK_INSTANCE_ID."
)


class Reconciler:
    """One run. The caller has the lock of store/reconciles.py, unless it is a dry run without a record."""

    def __init__(
        self,
        applier: Applier,
        users: UserList | None,
        *,
        instance_id: str | None = None,
        dry_run: bool = False,
        recent: bool = False,
        allow_mass_delete: bool = False,
        shows_values: bool = False,
        on_progress: Callable[[Report], None] = lambda _: None,
    ) -> None:
        """Compare the users of Clerk's list; `instance_id` is the instance that the key must belong to.

        `shows_values`: the report has the values of its first differences.
        Without a list, write the last state of each user in the inbox again.
        """
        self._applier = applier.with_source(SOURCE)
        self._users = users
        self._instance_id = instance_id
        self._allow_mass_delete = allow_mass_delete
        self._on_progress = on_progress
        self._seen = SeenObjects()
        self._end = START
        self._run: Run | None = None
        self._checkpoint: int | None = None
        self.report = Report(dry_run=dry_run, recent=recent)
        self._repair = RowRepair(self._applier, self.report, shows_values)

    @property
    def _store(self) -> Store:
        return self._applier.store

    async def begin(self, who: str | None = None) -> Run:
        """Record the start of the run, also of a dry run. Raises `DatabaseError`.

        `who` is the operator's access, for the audit; None for a scheduled run.
        """
        subject = f"mode={self.mode} dry_run={str(self.report.dry_run).lower()}"
        entry = AuditEntry(who, "reconcile", subject) if who else None
        self._run = await begin_run(self._store.database, self.mode, dry_run=self.report.dry_run, entry=entry)
        self._checkpoint = self._run.checkpoint
        return self._run

    @property
    def mode(self) -> str:
        """`full`, `recent` or `inbox`."""
        if self._users is None:
            return "inbox"
        return "recent" if self.report.recent else "full"

    async def run(self) -> Report:
        """Compare and repair; return the report, also after a failure. Raises `MappingMismatch`."""
        began = time.monotonic()
        try:
            if self._run is None and not self.report.dry_run:
                await self.begin()
            self.report.error = await self._reconcile()
            self.report.finished = self.report.error is None
        except ClerkAuthError as error:
            self.report.error = REJECTED_KEY.format(reason=error.reason)
        except ClerkUnavailable as error:
            self.report.error = f"Clerk cannot be asked ({error.reason}). The next run continues."
        except MappingMismatch:
            self.report.error = MISMATCH
            await self._finish()
            raise
        except DatabaseError as error:
            self.report.error = f"The database reports an error ({error.reason}). The next run continues."
        if self.report.unlisted:
            log.warning("users_not_listed", **self.report.unlisted)
        self.report.seconds = round(time.monotonic() - began, 3)
        await self._finish()
        return self.report

    async def _finish(self) -> None:
        if self._run:
            await finish_run(self._store.database, self._run, asdict(self.report), self._checkpoint, self.report.error)

    async def _reconcile(self) -> str | None:
        """Return the reason why the run may not begin, or None after its end."""
        if self._users is None:
            await restore_from_inbox(self._repair, self._on_progress)
            return None
        started_at = await read_clock(self._store.database)
        if problem := await self._find_key_problem(self._users):
            return problem
        if self.report.recent:
            await self._walk_recent(self._users)
        else:
            await self._walk(self._users, started_at)
        await self._repair.settle_claims(self._users)
        return None if self.report.recent else await self._walk_related(self._users, started_at)

    async def _walk_related(self, users: UserList, started_at: datetime) -> str | None:
        async def record() -> None:
            if self.report.pages % PAGES_PER_CHECKPOINT == 0:
                await self._save()
            self._on_progress(self.report)

        related = RelatedReconcile(users.requests, self._repair, self._allow_mass_delete, record)
        return await related.run(started_at)

    async def _find_key_problem(self, users: UserList) -> str | None:
        """Return the reason why the key may not be used for this table, or None. The first run pins the instance."""
        instances = await users.get_instances()
        if not instances:
            return UNCONFIRMED_KEY
        async with self._store.database.acquire() as connection:
            expected = self._instance_id or await get_pinned_instance(connection)
            if expected is None and not self.report.dry_run:
                await pin_instance(connection, min(instances))
        return FOREIGN_KEY if expected and expected not in instances else None

    async def _walk(self, users: UserList, started_at: datetime) -> None:
        await self._repair_pages(self._iter_all_pages(users))
        self._checkpoint = None
        total = await self._count(users)
        if total > self.report.users:
            # Some users may have been created after the last page and before the count.
            await self._repair_pages((page, None) async for page, _ in iter_pages(users, self._end))
        unseen = UnseenObjects(users.find_users, MAX_IDS - 1, self._repair, self._seen, self._allow_mass_delete)
        await unseen.delete(started_at)
        self.report.count_unlisted(USER.section, total)

    async def _repair_pages(self, pages: AsyncGenerator[tuple[list[Listed], int | None], None]) -> None:
        """Repair pages, some of them at the same time, and record them in their order."""
        async with contextlib.aclosing(pages):
            repairs = map_in_order(pages, lambda page: self._repair.find_and_write(page[0]), limit=MAX_CONCURRENT_PAGES)
            async with contextlib.aclosing(repairs):
                async for (page, checkpoint), findings in repairs:
                    self._seen.add(user.clerk_id for user in page)
                    self.report.count_page(findings)
                    self._checkpoint = checkpoint
                    if findings.outcomes or self.report.pages % PAGES_PER_CHECKPOINT == 0:
                        await self._save()
                    self._on_progress(self.report)

    async def _count(self, users: UserList) -> int:
        """Return the number of users, 0 if Clerk does not tell it."""
        with contextlib.suppress(ClerkUnavailable):
            return await users.count() or 0
        return 0

    async def _walk_recent(self, users: UserList) -> None:
        """Compare the newest changes. The first run has no time to stop at, so it compares all users."""
        watermark = await find_watermark(self._store.database)
        seen: set[str] = set()
        async for page in iter_recent(users, watermark or 0):
            await self._repair.repair([user for user in page if user.clerk_id not in seen])
            seen.update(user.clerk_id for user in page)
            self._on_progress(self.report)

    async def _save(self) -> None:
        if self._run:
            await save_run(self._store.database, self._run, asdict(self.report), self._checkpoint)

    async def _iter_all_pages(self, users: UserList) -> AsyncGenerator[tuple[list[Listed], int | None], None]:
        """Yield each user once, with the creation time to continue from after the page.

        After an interrupted run, the users behind its checkpoint come first, and those before it follow. So only a run
        that has seen all users itself decides about deletions.
        """
        since = self._checkpoint
        first = START if since is None else Position.at(since)
        async with contextlib.aclosing(iter_pages(users, first)) as pages:
            async for page, place in pages:
                self._end = place or self._end
                yield page, self._end.created_at
        if since is None:
            return
        async with contextlib.aclosing(iter_pages(users, START)) as pages:
            async for page, place in pages:
                earlier = [user for user in page if user.created_at < since]
                yield earlier, place.created_at if place else None
                if len(earlier) < len(page):
                    return
