"""The record of one run of the reconcile: its report so far, and the place to continue from."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from sync_service.postgres.pool import Database
from sync_service.store.audit import AuditEntry
from sync_service.store.reconciles import Run, begin_run, finish_run, save_run
from sync_service.sync.drift_report import Report

# A page without a write is recorded only now and then, so that a run over unchanged users hardly writes.
PAGES_PER_CHECKPOINT = 20


@dataclass(slots=True)
class RunRecord:
    """The row of a run; a dry run may have none. `checkpoint` is the creation time of the user to continue from."""

    database: Database
    report: Report
    on_progress: Callable[[Report], None]
    run: Run | None = None
    checkpoint: int | None = None

    async def begin(self, mode: str, entry: AuditEntry | None) -> Run:
        """Add the row. An interrupted run gives its checkpoint to the next one."""
        self.run = await begin_run(self.database, mode, dry_run=self.report.dry_run, entry=entry)
        self.checkpoint = self.run.checkpoint
        return self.run

    async def record_page(self, *, has_written: bool = False) -> None:
        """Show the progress, and save it if a row was written or enough pages are compared."""
        if self.run and (has_written or self.report.pages % PAGES_PER_CHECKPOINT == 0):
            await save_run(self.database, self.run, asdict(self.report), self.checkpoint)
        self.on_progress(self.report)

    async def finish(self) -> None:
        """Save the report and the end of the run."""
        if self.run:
            await finish_run(self.database, self.run, asdict(self.report), self.checkpoint, self.report.error)
