"""The only way to write a user: many changes in, each one's outcome out, committed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import asyncpg

from sync_service.clerk.events import Event
from sync_service.errors import Unappliable, Unavailable
from sync_service.postgres.faults import translated
from sync_service.postgres.inbox import Statements, apply_together


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one event: applied, stale, duplicate, ignored, or parked with the class of the fault.

    `unstorable` is the one that is not committed: PostgreSQL's jsonb cannot hold it (NUL in a text, 1e99999), so it
    is refused instead of forgotten.
    """

    outcome: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Applier:
    """Applies changes to one mapped table. `source` is who tells of them: webhook, login, reconcile, replay."""

    pool: asyncpg.Pool
    statements: Statements
    source: str = "webhook"

    async def apply(self, events: Sequence[Event]) -> list[Outcome]:
        """Apply and file `events`; return each one's outcome, in their order, once it is committed.

        One that the database refuses does not stop the rest: it is filed as failed. Raises `Unavailable`; then
        none, or only some of them, are committed, and all may be sent again.
        """
        if not events:
            return []
        try:
            with translated():
                statuses = await apply_together(self.pool, self.statements, events, source=self.source)
        except Unappliable as fault:
            return await self._take_apart(events, fault)
        return [
            Outcome("parked", event.fault) if status == "failed" else Outcome(status)
            for event, status in zip(events, statuses, strict=True)
        ]

    async def _take_apart(self, events: Sequence[Event], fault: Unappliable) -> list[Outcome]:
        if len(events) > 1:
            half = len(events) // 2
            return [*await self.apply(events[:half]), *await self.apply(events[half:])]
        [event] = events
        if not event.fault:
            return await self.apply([replace(event, fault=fault.reason)])
        if fault.sqlstate.startswith("22"):
            return [Outcome("unstorable", fault.reason)]
        # Not even the inbox takes it: a privilege is missing, say. Svix keeps it until somebody has seen to that.
        raise Unavailable(fault.reason) from fault
