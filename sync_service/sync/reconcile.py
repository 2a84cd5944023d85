"""Compares all users of Clerk, or the last states in the inbox, with the table, and repairs the rows that differ.

Organizations and memberships follow the users. All writes go through sync/apply.py, where a webhook that arrives
meanwhile wins if it is newer.
"""

import time
from collections.abc import Callable

import structlog

from sync_service.clerk.user_list import UserList
from sync_service.errors import ClerkAuthError, ClerkUnavailable, DatabaseError, MappingMismatch
from sync_service.store.access import Store
from sync_service.store.audit import AuditEntry
from sync_service.store.identities import get_pinned_instance, pin_instance
from sync_service.store.reconciles import Run, find_watermark, read_clock
from sync_service.sync.apply import Applier
from sync_service.sync.drift_report import Report
from sync_service.sync.inbox_restore import restore_from_inbox
from sync_service.sync.related_reconcile import RelatedReconcile
from sync_service.sync.row_repair import SOURCE, RowRepair
from sync_service.sync.run_record import RunRecord
from sync_service.sync.user_reconcile import UserReconcile

log = structlog.get_logger()

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
        self.report = Report(dry_run=dry_run, recent=recent)
        self._record = RunRecord(self._store.database, self.report, on_progress)
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
        return await self._record.begin(self.mode, entry)

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
            if self._record.run is None and not self.report.dry_run:
                await self.begin()
            self.report.error = await self._reconcile()
            self.report.finished = self.report.error is None
        except ClerkAuthError as error:
            self.report.error = REJECTED_KEY.format(reason=error.reason)
        except ClerkUnavailable as error:
            self.report.error = f"Clerk cannot be asked ({error.reason}). The next run continues."
        except MappingMismatch:
            self.report.error = MISMATCH
            await self._record.finish()
            raise
        except DatabaseError as error:
            self.report.error = f"The database reports an error ({error.reason}). The next run continues."
        if self.report.unlisted:
            log.warning("users_not_listed", **self.report.unlisted)
        self.report.seconds = round(time.monotonic() - began, 3)
        await self._record.finish()
        return self.report

    async def _reconcile(self) -> str | None:
        """Return the reason why the run may not begin, or None after its end."""
        if self._users is None:
            await restore_from_inbox(self._repair, self._record.on_progress)
            return None
        started_at = await read_clock(self._store.database)
        if problem := await self._find_key_problem(self._users):
            return problem
        compared = UserReconcile(self._users, self._repair, self._record, self._allow_mass_delete)
        if self.report.recent:
            await compared.compare_recent(await find_watermark(self._store.database))
        else:
            await compared.compare_all(started_at)
        await self._repair.settle_claims(self._users)
        if self.report.recent:
            return None
        related = RelatedReconcile(
            self._users.requests, self._repair, self._allow_mass_delete, self._record.record_page
        )
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
