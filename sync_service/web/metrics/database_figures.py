"""Figures from the database: at most 8 s old, read by one caller for all others, and shared between processes.

Without the database the last figures stay, and the gauge of readiness says so.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct
from prometheus_client.core import GaugeMetricFamily

from sync_service.errors import DatabaseError, MappingMismatch
from sync_service.postgres.errors import translate_errors
from sync_service.store.access import Store
from sync_service.store.figures import Figures, read_figures
from sync_service.web.health import Readiness

log = structlog.get_logger()

# Seconds. A response takes 5 s at most: the query, the release of a silent connection, and the rest.
MAX_AGE = 8.0
READ_TIMEOUT = 3.0
MAX_WAIT = 4.5


class Reading(Struct, frozen=True):
    """The result of one query. A check is false also if an earlier one has failed, because it was not made."""

    read_at: float = 0
    database: bool = False
    schema: bool = False
    mapping: bool = False
    figures: Figures = Figures()


class DatabaseFigures:
    """Reads and keeps the figures of one service. `folder` is the one that its processes share, None with one."""

    def __init__(self, store: Store, readiness: Readiness, folder: Path | None) -> None:
        self._store = store
        self._readiness = readiness
        self._file = folder / "figures.json" if folder else None
        self._last = Reading()
        self._task: asyncio.Task[None] | None = None

    async def get(self) -> Reading:
        """Return the figures, read again if they are old. It waits `MAX_WAIT` seconds at most."""
        if not 0 <= time.time() - self._load().read_at < MAX_AGE:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._read())
            await asyncio.wait({self._task}, timeout=MAX_WAIT)
        return self._load()

    def _load(self) -> Reading:
        """Return the newest figures that this process or another one has read."""
        if self._file:
            with contextlib.suppress(OSError, msgspec.MsgspecError):  # no process has read yet
                self._last = msgspec.json.decode(self._file.read_bytes(), type=Reading)
        return self._last

    async def _read(self) -> None:
        reading = Reading(figures=self._last.figures)
        try:
            reading = await self._query(reading)
        except Exception as error:  # a bug here must not end the response
            log.critical("unhandled_exception", exc_info=error)
        self._last = msgspec.structs.replace(reading, read_at=time.time())
        if self._file:
            with contextlib.suppress(OSError):
                own = self._file.with_suffix(f".{os.getpid()}")
                own.write_bytes(msgspec.json.encode(self._last))
                own.replace(self._file)

    async def _query(self, before: Reading) -> Reading:
        """Return new figures, or those of `before` as far as the database does not give new ones."""
        reading = before
        try:
            with translate_errors():
                async with asyncio.timeout(READ_TIMEOUT), self._store.database.acquire() as connection:
                    state = await self._readiness.read_schema(connection)
                    reading = msgspec.structs.replace(before, database=True, schema=state.is_ready)
                    if state.is_ready:
                        figures = await read_figures(connection)
                        reading = msgspec.structs.replace(reading, figures=figures)
                        await self._store.binding.ensure_bound(connection)
                        reading = msgspec.structs.replace(reading, mapping=True)
        except MappingMismatch:
            return reading
        except DatabaseError:
            return before
        return reading


def build_families(reading: Reading, now: float) -> Iterator[GaugeMetricFamily]:
    """Yield the families of these figures at the time `now`."""
    figures = reading.figures
    oldest = max(0.0, now - figures.oldest_failed_at) if figures.oldest_failed_at else 0.0
    yield _gauge("last_accepted_webhook_timestamp_seconds", "Time of the newest stored event", figures.last_accepted_at)
    yield _gauge("oldest_waiting_seconds", "Age of the oldest failed event", oldest)
    yield _gauge(
        "reconcile_last_success_timestamp_seconds", "End of the last complete reconcile", figures.last_reconcile_at
    )
    yield _gauges(
        "events_waiting", "Events that are not applied", "status", {"failed": figures.failed, "dead": figures.dead}
    )
    drift = {kind: getattr(figures, kind) for kind in ("missing", "stale", "differing", "deleted")}
    yield _gauges("reconcile_drift_users", "Findings of the last reconcile", "kind", drift)
    deliveries = {"pending": figures.pending_deliveries, "dead": figures.dead_deliveries}
    yield _gauges("deliveries_waiting", "Deliveries of changes that are not completed", "status", deliveries)
    checks = {"database": reading.database, "schema": reading.schema, "mapping": reading.mapping}
    yield _gauges("ready", "1 if the check passes", "check", checks)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"sync_service_{name}", text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"sync_service_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
