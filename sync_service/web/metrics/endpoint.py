"""GET /metrics: the metrics of all processes of the service."""

import asyncio
import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from sync_service.web.metrics.database_figures import DatabaseFigures, build_families
from sync_service.web.metrics.families import NO_SAMPLE, Metrics
from sync_service.web.metrics.shared_folder import find_shared_folder
from sync_service.web.operation import Operation, ResponseBody

METRICS = Operation(
    method="GET",
    path="/metrics",
    summary="Returns the metrics of all processes of the service for Prometheus.",
    responses={200: ResponseBody("The metrics in Prometheus' text format", media_type="text/plain")},
)

# Seconds between two updates of the gauges of a process for the other ones.
UPDATE_PAUSE = 1.0


class MetricsEndpoint:
    """The endpoint and its sources. `update` brings the gauges of this process up to date."""

    def __init__(self, metrics: Metrics, figures: DatabaseFigures, update: Callable[[], None]) -> None:
        self._figures = figures
        self._update = update
        self._families: CollectorRegistry | MultiProcessCollector = metrics.registry
        self._is_shared = find_shared_folder() is not None
        if self._is_shared:
            # With several processes, the figures of the one that responds would be of little use.
            self._families = MultiProcessCollector(None)  # type: ignore[no-untyped-call]  # the library has no types here
        else:
            ProcessCollector(registry=metrics.registry)

    async def keep_updated(self) -> None:
        """Update the gauges of this process until cancelled, if other processes return them too."""
        while self._is_shared:
            self._update()
            await asyncio.sleep(UPDATE_PAUSE)

    async def endpoint(self, request: Request) -> Response:
        """Return the text."""
        reading = await self._figures.get()
        self._update()
        registry = CollectorRegistry()
        registry.register(_Collected([*self._families.collect(), *build_families(reading, time.time())]))
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")


class _Collected(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        for family in self._families:
            family.samples = [sample for sample in family.samples if sample.value != NO_SAMPLE]
            yield family
